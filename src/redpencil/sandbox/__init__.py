"""Runs untrusted programs and says, from outside, whether they pass their tests.

`run` splits the tests (`split`), has the program compute what they ask for in a process of its own
(`process`, `child`), and compares the plain values that come out (`values`) with expectations that
never went in. What this protects from, and what it does not, is told in `process`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redpencil.errors import SandboxError, UsageError
from redpencil.sandbox.process import RUNG, Answer, Limits, execute
from redpencil.sandbox.split import SplitTest, split
from redpencil.sandbox.values import decode
from redpencil.types import Status, Verdict

__all__ = ["Limits", "run"]


def run(
    program: str,
    tests: Sequence[str],
    limits: Limits | None = None,
    *,
    setup: str = "",
    hidden_tests: Sequence[str] = (),
) -> Verdict:
    """Run a program, then its setup, then its tests, and judge.

    Args:
        tests: statements such as `assert f(1) == 2`, each on its own.
        setup: code run after the program and before the tests.
        hidden_tests: further tests, of which the verdict's feedback says nothing.

    Returns:
        The verdict; a fault of the machinery is one too, with status `infra_error`.

    Raises:
        UsageError: there are no tests.
    """
    if not tests and not hidden_tests:
        raise UsageError("there are no tests to run the program against")
    limits = limits or Limits()
    # Lone surrogates cannot be written to the process: it would not be a source file either.
    program = program.removeprefix("\ufeff").encode("utf-8", "replace").decode()
    visible = [split(test, program) for test in tests]
    hidden = [split(test, program) for test in hidden_tests]
    token = secrets.token_hex(16)
    request = {
        "program": program,
        "setup": setup,
        "tests": [
            (test.prelude, list(test.expressions), token if test.inside else None)
            for test in visible + hidden
        ],
    }
    try:
        answer = execute(request, limits)
    except SandboxError as error:
        return Verdict(
            Status.INFRA_ERROR, 0, len(visible), str(error), 0.0, RUNG, 0, 0, len(hidden)
        )
    outcomes = _read_outcomes(answer, [*visible, *hidden], token)
    status, detail = _conclude(outcomes, visible, answer, limits)
    return Verdict(
        status=status,
        passed=sum(outcome.passed for outcome in outcomes.tests[: len(visible)]),
        total=len(visible),
        detail=detail,
        seconds=round(answer.seconds, 4),
        rung=RUNG,
        inside=sum(test.inside for test in visible + hidden),
        hidden_passed=sum(outcome.passed for outcome in outcomes.tests[len(visible) :]),
        hidden_total=len(hidden),
    )


@dataclass(frozen=True)
class _Outcome:
    """Of one test: whether it passed, and else what to say of it."""

    passed: bool
    complaint: str = ""
    out_of_memory: bool = False


@dataclass(frozen=True)
class _Outcomes:
    """What an answer says, as far as it can be read."""

    loaded: bool
    load_error: tuple[str, str, int | None] | None
    tests: list[_Outcome]
    garbled: bool


def _read_outcomes(answer: Answer, tests: Sequence[SplitTest], token: str) -> _Outcomes:
    """Judge each test answered in turn; whatever does not fit the protocol ends the reading."""
    lines = answer.data.split(b"\n")[:-1]
    outcomes: list[_Outcome] = []
    loaded, load_error, garbled = False, None, False
    try:
        for number, line in enumerate(lines):
            message = json.loads(line)
            if number == 0:
                loaded = True
                load_error = _raised(message["load"]) if message["load"] is not None else None
            elif load_error is not None or message["test"] != len(outcomes):
                raise ValueError("out of turn")
            else:
                outcomes.append(_judge(tests[len(outcomes)], message, token))
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        garbled = True
    return _Outcomes(loaded, load_error, [] if garbled else outcomes, garbled)


def _judge(test: SplitTest, message: dict[str, Any], token: str) -> _Outcome:
    if "raised" in message:
        kind, text, line = _raised(message["raised"])
        if kind == "AssertionError" and test.inside:
            return _Outcome(False, test.complaint(()) + (f": {text}" if text else ""))
        return _Outcome(
            False, f"{test.call} raised {_error_text(kind, text, line)}", kind == "MemoryError"
        )
    if test.inside:
        return _Outcome(secrets.compare_digest(message["passed"], token), test.complaint(()))
    values = [decode(value) for value in message["values"]]
    if len(values) != len(test.expressions):
        raise ValueError("not the values asked for")
    try:
        if test.holds(values):
            return _Outcome(True)
        return _Outcome(False, test.complaint(values))
    except Exception as error:  # the test's own: such as a comparison of None with a number
        return _Outcome(False, f"failed: {test.call}: {type(error).__name__}: {error}")


def _conclude(
    outcomes: _Outcomes, visible: Sequence[SplitTest], answer: Answer, limits: Limits
) -> tuple[Status, str]:
    """Status and feedback, from the visible tests alone."""
    if outcomes.garbled:
        return Status.CRASHED, "the program disturbed the channel that its results go through"
    if outcomes.load_error is not None:
        kind = outcomes.load_error[0]
        status = Status.OUT_OF_MEMORY if kind == "MemoryError" else Status.CRASHED
        return status, _error_text(*outcomes.load_error)
    seen = outcomes.tests[: len(visible)]
    failed = next((outcome for outcome in seen if not outcome.passed), None)
    if len(seen) == len(visible):
        if failed is None:
            return Status.PASSED, ""
        return (Status.OUT_OF_MEMORY if failed.out_of_memory else Status.FAILED), failed.complaint
    where = f" in {visible[len(seen)].call}" if outcomes.loaded else ""
    if answer.timed_out:
        return Status.TIMED_OUT, f"timed out after {limits.wall:g} s{where}"
    if answer.too_much:
        return Status.CRASHED, f"returned more than {limits.answer} bytes{where}"
    return Status.CRASHED, f"{_ending(answer.exit_code)}{where}"


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"killed by signal {-exit_code}"
    return "the process ended before its tests did"


def _raised(encoded: Any) -> tuple[str, str, int | None]:
    kind, text, line = encoded
    if not isinstance(kind, str) or not isinstance(text, str) or not isinstance(line, int | None):
        raise ValueError("not a description of an exception")
    return kind, text, line


def _error_text(kind: str, text: str, line: int | None) -> str:
    message = f"{kind}: {text}" if text else kind
    return message + (f" (line {line})" if line is not None else "")
