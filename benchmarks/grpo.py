"""The loss and gradient of a GRPO step: as TRL hands its traces over, or no more than need be.

    python benchmarks/grpo.py [--programs N] [--group N] [--turns N] [--at-once N] [--json FILE]

Both take the log-probabilities of the actions of the same traces, so many at once, through the
same LoRA and the same head. The first does so as the traces come: prompts padded on the left,
completions on the right, as far as the longest of the step. The other is what training does: what
the traces of one program begin with is computed once, and what follows end to end, without padding;
rows that share nothing are padded on the right, as far as the longest of a few alike. The commands
are random edits of the programs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from contenders import MODEL
from redpencil import provenance
from redpencil.bounds import random_edits
from redpencil.checkers import PythonChecker
from redpencil.demos import broken_variants
from redpencil.engine.weights import default_dtype, load_base, load_tokenizer
from redpencil.env import EditEnv, EditRules
from redpencil.recipes import Lora
from redpencil.rollout import Episode, rollout
from redpencil.tasks import load
from redpencil.train.head import score_only_labels
from redpencil.train.loop import new_adapter
from redpencil.train.rows import score_rows
from redpencil.train.tokens import trace_tokens
from rollout import apart, record


class Rows(NamedTuple):
    """Traces side by side, (B, T) each: ids, 1 where they are not padding, labels."""

    ids: torch.Tensor
    shown: torch.Tensor
    labels: torch.Tensor


class Measured(NamedTuple):
    """One contender's run."""

    tokens_per_second: float
    loss: float


def step(programs: int, group: int, turns: int) -> Rows:
    """Traces of so many programs on board, a group of each, padded as TRL pads a step's."""
    checker = PythonChecker()
    tasks = load("builtin:train").tasks[: 2 * programs]
    broken = list(broken_variants(tasks, 1, (1, 2), 0, checker))[:programs]
    rules = EditRules(max_turns=turns)
    episodes = (
        Episode(EditEnv(each.task, checker, rules), seed)
        for each in broken
        for seed in range(group)
    )
    traces = sorted(rollout(episodes, random_edits()), key=lambda trace: trace.task.id)
    tokenizer = load_tokenizer(MODEL)
    chosen = [tokens for trace in traces for tokens in trace_tokens(trace, tokenizer)]
    count = len(chosen)
    starts = [tokens.is_action.index(True) for tokens in chosen]
    longest = max(starts)
    width = max(longest - start + len(row.ids) for row, start in zip(chosen, starts, strict=True))
    ids = torch.zeros(count, width, dtype=torch.long)
    shown, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for index, (row, start) in enumerate(zip(chosen, starts, strict=True)):
        place = slice(longest - start, longest - start + len(row.ids))
        ids[index, place] = torch.tensor(row.ids)
        shown[index, place] = 1
        labels[index, place] = torch.where(
            torch.tensor(row.is_action), torch.tensor(row.ids), torch.tensor(-100)
        )
    return Rows(ids, shown, labels)


def as_they_come(model: Any, rows: Rows) -> torch.Tensor:
    """Log-probabilities of padded rows, all of them as wide as the widest."""
    output = model(
        input_ids=rows.ids, attention_mask=rows.shown, labels=rows.labels, fused_lm_head=True
    )
    log_probs: torch.Tensor = output.log_probs
    return log_probs


def as_trained(model: Any, rows: Rows) -> torch.Tensor:
    """As `redpencil rl` does it."""
    return score_rows(model, *rows, at_once=False)[0]


CONTENDERS = {"as they come": as_they_come, "as trained": as_trained}


def measure(name: str, work: Rows, at_once: int, threads: int) -> Measured:
    """Time the step in what the machine computes in, after a warm-up; its loss is in float32."""
    torch.set_num_threads(threads)
    parts = [
        Rows(*(rows[start : start + at_once] for rows in work))
        for start in range(0, len(work.ids), at_once)
    ]
    dtype = default_dtype()
    model = _prepared(dtype)
    started = 0.0
    for number, part in enumerate((parts[0], *parts)):
        if number == 1:
            started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = -CONTENDERS[name](model, part).sum()
        loss.backward()  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - started
    model = _prepared(torch.float32)
    with torch.inference_mode():
        losses = [-CONTENDERS[name](model, part).sum().item() for part in parts]
    return Measured(int(work.shown.sum()) / seconds, sum(losses))


def _prepared(dtype: torch.dtype) -> Any:
    tuned = new_adapter(load_base(MODEL, dtype)[0], Lora(), seed=0)
    score_only_labels(tuned.get_base_model())
    return tuned


def main() -> None:
    """Measure, print as ratios, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=1)
    parser.add_argument("--group", type=int, default=8, help="traces of each program")
    parser.add_argument("--turns", type=int, default=3, help="most turns of a trace")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--threads", type=int, default=provenance.usable_cores())
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    work = step(arguments.programs, arguments.group, arguments.turns)
    lengths = work.shown.sum(1)
    print(
        f"{provenance.machine()}; {arguments.threads} threads; {MODEL}; {len(work.ids)} traces "
        f"of {int(lengths.min())} to {int(lengths.max())} tokens, {arguments.group} of a program, "
        f"{arguments.at_once} at once; "
        f"{1 - work.shown.float().mean():.0%} of TRL's rows is padding"
    )
    found = {
        name: apart(measure, name, work, arguments.at_once, arguments.threads)
        for name in CONTENDERS
    }
    first = next(iter(found.values()))
    for name, measured in found.items():
        print(
            f"{name:<13} {measured.tokens_per_second:5.0f} tokens/s  "
            f"{measured.tokens_per_second / first.tokens_per_second:4.2f} x  "
            f"loss in float32 {measured.loss:.4f}"
        )
    if arguments.json:
        numbers = {
            "tokens_per_second": {name: m.tokens_per_second for name, m in found.items()},
        }
        record(arguments.json, arguments.threads, numbers)


if __name__ == "__main__":
    main()
