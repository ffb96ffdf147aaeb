"""Traces made by hand, of rewards and pages; a shop to be mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from redpencil import editor
from redpencil.errors import ApplyError, ParseError
from redpencil.results import Origin
from redpencil.types import Edit, End, Observation, Status, Task, Trace, Turn, Verdict

VERDICT = Verdict(Status.FAILED, 0, 1, "", 0.0, "full")
REPL = Edit("REPL", 1, "x")
BROKEN = "def double(n):\n    return n + 1\n"
RIGHT = "def double(n):\n    return n * 2\n"
TESTS = "from shop import double\n\nassert double(2) == 4\nassert double(5) == 10\n"


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


def origin(method: str = "coe", **changes: Any) -> Origin:
    """What results say beside their numbers."""
    made = Origin(method, "made", "tiny", None, 0, "redpencil eval made", {}, "", "")
    return msgspec.structs.replace(made, **changes)


@dataclass(frozen=True)
class Act:
    """One turn in short: its action, the page that it leaves, and how many tokens it took."""

    action: str
    page: str
    solved: bool = False
    tokens: int = 0


def episode(
    program: str,
    *acts: Act,
    of: str = "t",
    end: End = "exit",
    seed: int = 0,
    corruptions: tuple[str, ...] = (),
    fault: str = "",
) -> Trace:
    """A trace that begins with a program of one line; what is no command of the page is malformed.

    A fault of the infrastructure (`end="error"`) solves nothing.
    """
    pages = [program, *(act.page for act in acts)]
    observations = [Observation(page, editor.load_page(page)) for page in pages]
    turns = tuple(
        _turn(act, observation) for act, observation in zip(acts, observations, strict=False)
    )
    return Trace(
        msgspec.structs.replace(task(of), program=program, fault=fault),
        "coe",
        "made",
        seed,
        turns,
        observations[-1],
        end,
        solved=bool(acts) and acts[-1].solved and end != "error",
        corruptions=corruptions,
    )


def _turn(act: Act, observation: Observation) -> Turn:
    edit, error = None, ""
    try:
        edit = editor.parse(act.action)
        editor.apply(observation.page, edit)
    except (ParseError, ApplyError) as problem:
        error = str(problem)
    verdict = msgspec.structs.replace(
        VERDICT, status=Status.PASSED if act.solved else Status.FAILED, passed=int(act.solved)
    )
    ids = tuple(range(act.tokens))
    return Turn(observation, act.action, edit, error, verdict, 0.0, (), ids)
