"""How far the engine's log-probabilities are from a full recomputation of each sequence.

    python benchmarks/exactness.py [--trajectories N] [--turns N]

In float32 a difference above 1e-4 would be a mistake, and tests hold to that. In bfloat16 two ways
to add up the same numbers differ; here is by how much, and how much bfloat16 itself costs.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from contenders import MODEL, Shape, workload
from redpencil import provenance
from redpencil.engine import Sampling
from redpencil.engine.local import LocalEngine
from redpencil.engine.weights import load_base

PERCENTILES = (50, 90, 99, 100)


def sampled(shape: Shape) -> list[tuple[list[int], list[int], list[float]]]:
    """Sequences that the engine samples in bfloat16: ids, places of those sampled, their logps."""
    model, tokenizer = load_base(MODEL, torch.bfloat16)
    engine = LocalEngine(model, tokenizer, context=4096, capacity=shape.trajectories)
    work = {engine.open(): trajectory for trajectory in workload(shape, model.config.vocab_size)}
    ids: dict[int, list[int]] = {handle: [] for handle in work}
    places: dict[int, list[int]] = {handle: [] for handle in work}
    logps: dict[int, list[float]] = {handle: [] for handle in work}
    for turn in range(shape.turns):
        for handle, trajectory in work.items():
            engine.append(handle, trajectory.shown[turn])
            ids[handle] += trajectory.shown[turn]
            length = trajectory.actions[turn]
            engine.begin(handle, Sampling(1.0, 1.0, length, handle, lambda text: False))
        left = len(work)
        while left:
            for handle, sample in engine.step():
                assert not isinstance(sample, Exception)
                assert sample is not None
                places[handle] += range(len(ids[handle]), len(ids[handle]) + len(sample.ids))
                ids[handle] += sample.ids
                logps[handle] += sample.logprobs
                left -= 1
    return [(ids[handle], places[handle], logps[handle]) for handle in work]


@torch.inference_mode()
def recomputed(model: Any, ids: list[int], places: list[int]) -> torch.Tensor:
    """Log-probabilities of the ids at `places`, each given all before it, in one pass."""
    logits = model(input_ids=torch.tensor([ids])).logits[0].float()
    at = torch.tensor(places)
    logps: torch.Tensor = logits[at - 1].log_softmax(-1)
    return logps.gather(1, torch.tensor(ids)[at][:, None])[:, 0]


def main() -> None:
    """Measure and print percentiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, default=8)
    parser.add_argument("--turns", type=int, default=6)
    arguments = parser.parse_args()
    sequences = sampled(Shape(arguments.trajectories, arguments.turns))
    print(f"{provenance.machine()}; {MODEL}; {sum(len(p) for _, p, _ in sequences)} tokens sampled")
    print("|difference| of log-probabilities" + "".join(f"{f'p{p}':>10}" for p in PERCENTILES))
    found = {}
    for dtype in (torch.bfloat16, torch.float32):
        model, _ = load_base(MODEL, dtype)
        found[dtype] = torch.cat([recomputed(model, ids, at) for ids, at, _ in sequences])
    ours = torch.tensor([logp for _, _, logps in sequences for logp in logps])
    rows = {
        "engine, one pass in bfloat16": ours - found[torch.bfloat16],
        "engine, one pass in float32": ours - found[torch.float32],
        "one pass in bfloat16, in float32": found[torch.bfloat16] - found[torch.float32],
    }
    for name, difference in rows.items():
        values = difference.abs().quantile(torch.tensor(PERCENTILES) / 100.0)
        print(f"{name:<33}" + "".join(f"{value:10.4f}" for value in values.tolist()))


if __name__ == "__main__":
    main()
