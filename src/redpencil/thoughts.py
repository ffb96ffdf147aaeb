"""Reasoning in words, as traces to fine-tune the reasoning baseline on (paper, evaluation: s1K).

Other teachers' thoughts need no format: `redpencil rollout --method reasoning` samples traces from
any model.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from redpencil.env import ThinkEnv
from redpencil.errors import DataError
from redpencil.tasks.hub import Dataset
from redpencil.types import Observation, Status, Task, Trace, Turn, Verdict

S1K = Dataset("s1K", "simplescaling/s1K")

_UNJUDGED = Verdict(Status.PASSED, 0, 0, "", 0.0, "none")
"""There are no tests, so that all of them pass."""


class _Row(msgspec.Struct, frozen=True):
    """What is read of a row, in the fields of s1K or of s1K-1.1."""

    question: str
    thinking_trajectories: list[str] = []
    attempt: str = ""
    deepseek_thinking_trajectory: str = ""
    deepseek_attempt: str = ""


def s1k(folder: Path | None = None) -> list[Trace]:
    """s1K's thousand questions, each with the thoughts and the answer of a large model.

    Args:
        folder: where `train.jsonl` lies, in the fields of s1K or s1K-1.1; None fetches s1K from the
            hub.

    Raises:
        DataError: a file is missing or not what it should be.
        UsageError: there is no such folder, or the hub cannot be reached.
    """
    rows = S1K.rows("train", "train.jsonl", folder, _Row, "s1k:FOLDER")
    return [_trace(f"s1k/{number}", where, row) for number, (where, row) in enumerate(rows, 1)]


def _trace(name: str, where: str, row: _Row) -> Trace:
    thoughts = "\n\n".join(row.thinking_trajectories) or row.deepseek_thinking_trajectory
    answer = row.attempt or row.deepseek_attempt
    if not thoughts or not answer:
        raise DataError(f"{where}: a row needs thoughts (`thinking_trajectories`) and an `attempt`")
    turn = Turn(
        observation=Observation(row.question, ()),
        action=f"{thoughts.strip()}\n\n{answer.strip()}",
        edit=None,
        error="",
        verdict=_UNJUDGED,
        reward=0.0,
    )
    task = Task(name, row.question, None, None, (), (), "", "train")
    final = Observation("", ())
    return Trace(task, ThinkEnv.method, "demo:s1k", 0, (turn,), final, "exit", solved=True)
