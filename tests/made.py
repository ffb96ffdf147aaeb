"""Traces made by hand, of rewards and pages."""

from __future__ import annotations

from collections.abc import Sequence

from redpencil.types import Edit, End, Observation, Status, Task, Trace, Turn, Verdict

VERDICT = Verdict(Status.FAILED, 0, 1, "", 0.0, "full")
REPL = Edit("REPL", 1, "x")


def task(name: str = "t") -> Task:
    return Task(name, "", "x", None, ("assert x",), (), "", "train")


def trace(
    rewards: Sequence[float],
    pages: Sequence[str] | None = None,
    *,
    of: str = "t",
    end: End = "exit",
    solved: bool = False,
    edits: Sequence[Edit | None] | None = None,
) -> Trace:
    """A trace of a turn for each reward; `pages` has one more, which the trace ended on."""
    pages = pages or [str(place) for place in range(len(rewards) + 1)]
    observations = [Observation(page, (page,)) for page in pages]
    turns = tuple(
        Turn(observation, "", edit, "" if edit else "malformed", VERDICT, reward)
        for observation, edit, reward in zip(
            observations[:-1], edits or [REPL] * len(rewards), rewards, strict=True
        )
    )
    return Trace(task(of), "coe", "made", 0, turns, observations[-1], end, solved)
