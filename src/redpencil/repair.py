"""Repair of a user's own program: one task, one policy, the trace worth keeping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from redpencil import editor
from redpencil.checkers import Checker
from redpencil.env import EditEnv, EditRules
from redpencil.errors import UsageError
from redpencil.policy import Policy
from redpencil.rollout import Episode, rollout
from redpencil.types import Status, Task, Trace

DEFAULT_PROMPT = "Make the program pass its tests."


def repair_task(
    program: str, tests: Sequence[str], setup: str = "", prompt: str = DEFAULT_PROMPT
) -> Task:
    """The task of repairing a program so that it passes tests."""
    return Task(
        id="repair",
        prompt=prompt,
        program=program,
        solution=None,
        tests=tuple(tests),
        hidden_tests=(),
        setup=setup,
        split="test",
    )


def repair(
    task: Task, policies: Iterable[Policy], checker: Checker, *, max_turns: int = 10
) -> Iterator[Trace]:
    """Let policies try one after the other; yields their traces, the last one solved if any is.

    An episode ends as soon as the tests pass.

    Raises:
        UsageError: there is nothing to repair, because the tests already pass.
        SandboxError: the program could not be run at all.
    """
    text = editor.page_text(editor.load_page(task.program or ""))
    verdict = checker.check(text, task)
    if verdict.status is Status.PASSED:
        raise UsageError(f"nothing to repair: all {verdict.total} tests already pass")
    rules = EditRules(max_turns=max_turns, until_solved=True)
    for seed, policy in enumerate(policies):
        (trace,) = rollout([Episode(EditEnv(task, checker, rules), seed)], policy)
        if not trace.turns and trace.end == "truncated":
            raise UsageError("the program and its tests are too long for the model's context")
        yield trace
        if trace.solved:
            return
