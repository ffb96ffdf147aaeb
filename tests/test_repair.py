"""`repair`: attempts by editing and by answering take turns, until one makes the tests pass."""

from __future__ import annotations

import pytest

from redpencil.checkers import PythonChecker
from redpencil.env import Method
from redpencil.errors import SandboxError, UsageError
from redpencil.policy import Policy, ScriptedPolicy
from redpencil.repair import repair, repair_task
from redpencil.types import Status, Task, Trace, Verdict

CHECKER = PythonChecker()
BOTH: tuple[Method, ...] = ("coe", "direct")
PROGRAM = "def double(n):\n    return n + 1\n"
TASK = repair_task(PROGRAM, ["assert double(2) == 4", "assert double(5) == 10"])
VAIN, FIX = "### REPL 2 >>>    return n", "### REPL 2 >>>    return n * 2"
WRONG, RIGHT = (f"```python\ndef double(n):\n    return {value}\n```" for value in ("4", "n + n"))


def saying(*scripts: list[str]) -> list[Policy]:
    """A policy for each attempt, which says what it is given and no more."""
    return [ScriptedPolicy(lambda task, script=script: script) for script in scripts]  # type: ignore[misc]


def attempts(traces: list[Trace]) -> list[tuple[str, int, bool]]:
    return [(trace.method, trace.seed, trace.solved) for trace in traces]


def test_edits_and_answers_take_turns_until_the_tests_pass() -> None:
    traces = list(
        repair(TASK, saying([VAIN], [WRONG], [FIX, VAIN], [RIGHT]), CHECKER, methods=BOTH)
    )
    assert attempts(traces) == [("coe", 0, False), ("direct", 1, False), ("coe", 2, True)]
    assert traces[-1].end == "solved"
    assert len(traces[-1].turns) == 1


def test_an_answer_repairs_what_editing_did_not() -> None:
    traces = list(repair(TASK, saying([VAIN], [RIGHT]), CHECKER, methods=BOTH))
    assert attempts(traces) == [("coe", 0, False), ("direct", 1, True)]
    assert traces[-1].final.page == ("def double(n):", "    return n + n")


@pytest.mark.parametrize(("method", "script"), [("coe", [VAIN]), ("direct", [WRONG])])
def test_one_method_alone_makes_every_attempt(method: Method, script: list[str]) -> None:
    traces = list(repair(TASK, saying(script, script), CHECKER, methods=[method]))
    assert attempts(traces) == [(method, 0, False), (method, 1, False)]


def test_a_fault_of_the_machinery_ends_the_repair() -> None:
    class Broken:
        def check(self, text: str, task: Task) -> Verdict:
            return Verdict(Status.INFRA_ERROR, 0, 2, "no process left", 0.0, "none")

    with pytest.raises(SandboxError, match="no process left"):
        list(repair(TASK, saying([FIX]), Broken()))


def test_a_method_that_does_not_fit_into_the_context_is_not_tried_again() -> None:
    traces = list(repair(TASK, saying([VAIN], [], [VAIN], [FIX]), CHECKER, methods=BOTH))
    assert [(trace.method, trace.end) for trace in traces] == [
        ("coe", "cut_short"), ("direct", "cut_short"), ("coe", "cut_short"), ("coe", "solved"),
    ]  # fmt: skip
    with pytest.raises(UsageError, match="too long for the model's context"):
        list(repair(TASK, saying([], [], [FIX]), CHECKER, methods=BOTH))
