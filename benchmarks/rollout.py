"""Sampling many-turn traces: re-encoding the history each turn, and our engine, side by side.

    python benchmarks/rollout.py [--trajectories N] [--turns N] [--threads N] [--json FILE]

Every trajectory has a prompt of 250 tokens and, a turn, 20 sampled tokens and a page of 150.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from redpencil import provenance
from redpencil.engine import Sampling
from redpencil.engine.local import LocalEngine
from redpencil.engine.weights import load_base

PROMPT, ACTION, PAGE = 250, 20, 150
GRAMMAR = r"start: /### (ADDL|REPL) (1|2|3|4|5|6|7|8|9) >>>[^\n\r]{200,}\n/"
"""Of a command too long to end before its tokens do, so that all draw as many."""


def workload(count: int, turns: int, vocabulary: int) -> list[list[list[int]]]:
    """For each trajectory what is appended in each turn: four share a prompt, as a group does."""
    rng = random.Random(0)

    def ids(length: int) -> list[int]:
        return [rng.randrange(100, vocabulary) for _ in range(length)]

    prompts = [ids(PROMPT) for _ in range(-(-count // 4))]
    return [[prompts[index // 4]] + [ids(PAGE) for _ in range(turns - 1)] for index in range(count)]


def reencode(model: Any, work: list[list[list[int]]]) -> None:
    """What a loop around `generate` does: each turn the whole history goes in again."""
    histories: list[list[int]] = [[] for _ in work]
    for turn in range(len(work[0])):
        for history, shown in zip(histories, work, strict=True):
            history += shown[turn]
        output = model.generate(
            torch.tensor(histories),
            attention_mask=torch.ones(len(work), len(histories[0]), dtype=torch.long),
            min_new_tokens=ACTION,
            max_new_tokens=ACTION,
            do_sample=True,
            pad_token_id=0,
        )
        histories = output.tolist()


def packed(engine: LocalEngine, work: list[list[list[int]]], grammar: str | None = None) -> None:
    """Ours: each sequence's cache lives on, only what is new is computed."""
    handles = [engine.open() for _ in work]
    for turn in range(len(work[0])):
        for handle, shown in zip(handles, work, strict=True):
            engine.append(handle, shown[turn])
        requests = [
            (handle, Sampling(1.0, 1.0, ACTION, seed, lambda text: False, grammar))
            for seed, handle in enumerate(handles)
        ]
        engine.sample(requests)
    for handle in handles:
        engine.close(handle)


def per_minute(work: list[list[list[int]]], sample: Callable[[], None]) -> float:
    """Trajectories a minute."""
    started = time.perf_counter()
    sample()
    return 60 * len(work) / (time.perf_counter() - started)


def main() -> None:
    """Measure, print as ratios, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, default=16)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--threads", type=int, default=provenance.usable_cores())
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rates: dict[str, float] = {}
    model, tokenizer = load_base("smollm2-135m")
    work = workload(arguments.trajectories, arguments.turns, len(tokenizer))
    rates["reencode"] = per_minute(work, lambda: reencode(model, work))
    for name, dtype, grammar in (
        ("packed_bf16", torch.bfloat16, None),
        ("constrained", torch.bfloat16, GRAMMAR),
        ("packed_fp32", torch.float32, None),
    ):
        engine = LocalEngine(*load_base("smollm2-135m", dtype), context=4096)
        rates[name] = per_minute(work, partial(packed, engine, work, grammar))
    print(f"{provenance.machine()}; {arguments.threads} threads; {model.dtype} where not named")
    for name, value in rates.items():
        ratio = value / rates["reencode"]
        print(f"{name:<12} {value:8.2f} trajectories a minute   {ratio:6.2f} x re-encoding")
    if arguments.json:
        arguments.json.write_text(json.dumps({"trajectories_per_minute": rates}, indent=2) + "\n")


if __name__ == "__main__":
    main()
