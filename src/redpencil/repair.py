"""Repair of a user's own program: one task, attempts in turn, the trace worth keeping."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from redpencil.checkers import Checker, judge
from redpencil.env import EditRules, Method, repairing
from redpencil.errors import SandboxError, UsageError
from redpencil.policy import Policy
from redpencil.rollout import Episode, rollout
from redpencil.types import Status, Task, Trace

DEFAULT_PROMPT = "Make the program pass its tests."


def repair_task(
    program: str, tests: Sequence[str], setup: str = "", prompt: str = DEFAULT_PROMPT
) -> Task:
    """The task of repairing a program, be it after a byte-order mark, so that it passes tests."""
    return Task(
        id="repair",
        prompt=prompt,
        program=program.removeprefix("\ufeff"),
        solution=None,
        tests=tuple(tests),
        hidden_tests=(),
        setup=setup,
        split="test",
    )


def require_broken(task: Task, checker: Checker) -> None:
    """Make sure that there is something to repair.

    Raises:
        UsageError: the tests already pass, or cannot run whatever the program is.
        SandboxError: the program could not be run at all.
    """
    verdict = judge(checker, task.program or "", task)
    if verdict.status is Status.PASSED:
        raise UsageError(f"nothing to repair: all {verdict.total} tests already pass")
    alone = judge(checker, "", msgspec.structs.replace(task, tests=("assert True",)))
    if alone.detail.startswith("ModuleNotFoundError"):
        raise UsageError(
            f"the tests cannot run: {alone.detail}; install it beside redpencil, or test without it"
        )


def repair(
    task: Task,
    policies: Iterable[Policy],
    checker: Checker,
    *,
    methods: Sequence[Method] = ("coe",),
    max_turns: int = 10,
) -> Iterator[Trace]:
    """Let policies try one after the other; yields their traces, the last one solved if any is.

    An episode of editing ends as soon as the tests pass.

    Args:
        methods: how the first policy repairs, the second, and so on, over and over. Edits and
            answers mend different programs, and edits leave alone what need not change.
        max_turns: most commands of an attempt to edit.

    Raises:
        UsageError: the program and its tests do not fit into a model's context by any method.
        SandboxError: a fault of the machinery ended an attempt.
    """
    rules = EditRules(max_turns=max_turns, until_solved=True)
    fitting = deque(methods)
    for seed, policy in enumerate(policies):
        method = fitting.popleft()
        env = repairing(method, task, checker, rules)
        (trace,) = rollout([Episode(env, seed)], policy)
        if trace.end == "error":
            raise SandboxError(trace.error)
        if trace.turns or trace.end != "cut_short":
            fitting.append(method)
        elif not fitting:
            raise UsageError("the program and its tests are too long for the model's context")
        yield trace
        if trace.solved:
            return
