"""From what a program answered to a verdict. Nothing here trusts what it reads."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redpencil.sandbox.inside.zygote import ANSWER_BYTES
from redpencil.sandbox.limits import Limits
from redpencil.sandbox.split import SplitTest, clip
from redpencil.sandbox.values import decode, shorten
from redpencil.sandbox.worker import Answer, Rung
from redpencil.types import Status, Verdict

_MOST_CHARACTERS = 400
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def conclude(
    answer: Answer,
    visible: Sequence[SplitTest],
    hidden: Sequence[SplitTest],
    hidden_total: int,
    token: str,
    limits: Limits,
    rung: Rung,
) -> Verdict:
    """The verdict on a program that ran.

    Args:
        hidden: those of its hidden tests that were sent to it.
        hidden_total: how many there are, sent or not.
        token: what a test judged inside answers where it holds.
    """
    outcomes = _read_outcomes(answer, [*visible, *hidden], token)
    status, detail, raised = _status(outcomes, visible, answer, limits)
    return Verdict(
        status=status,
        passed=sum(outcome.passed for outcome in outcomes.tests[: len(visible)]),
        total=len(visible),
        detail=_printable(detail),
        seconds=round(answer.seconds, 4),
        rung=rung.value,
        inside=sum(test.inside for test in (*visible, *hidden)),
        hidden_passed=sum(outcome.passed for outcome in outcomes.tests[len(visible) :]),
        hidden_total=hidden_total,
        raised=_printable(raised),
    )


@dataclass(frozen=True)
class _Outcome:
    """Of one test: whether it passed, and else what to say of it."""

    passed: bool
    complaint: str = ""
    raised: str = ""
    """The type of the exception that it ended in, if any."""


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
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError, MemoryError):
        garbled = True
    return _Outcomes(loaded, load_error, [] if garbled else outcomes, garbled)


def _judge(test: SplitTest, message: dict[str, Any], token: str) -> _Outcome:
    if "raised" in message:
        kind, text, line = _raised(message["raised"])
        if kind == "AssertionError" and test.inside:
            return _Outcome(False, f"{test.complaint()}: {_error_text(kind, text, None)}")
        return _Outcome(False, f"{test.call} raised {_error_text(kind, text, line)}", kind)
    if test.inside:
        return _Outcome(secrets.compare_digest(message["passed"], token), test.complaint())
    values = [_value(encoded) for encoded in message["values"]]
    if len(values) != len(test.expressions):
        raise ValueError("not the values asked for")
    try:
        if test.holds(_Values({f"_{index}": value for index, value in enumerate(values)})):
            return _Outcome(True)
    except _Raised as error:
        return _Outcome(False, f"{_source_of(test, values, error)} {error}", error.kind)
    except Exception as error:  # the test's own: such as a comparison of None with a number
        return _Outcome(False, f"failed: {test.call}: {type(error).__name__}: {error}")
    came = [
        str(value) if isinstance(value, _Raised) else f"returned {shorten(value)}"
        for value in values
    ]
    return _Outcome(False, test.complaint(came))


class _Raised(Exception):
    """Stands for the value of an expression that has none."""

    def __init__(self, kind: str, text: str, line: int | None) -> None:
        super().__init__(f"raised {_error_text(kind, text, line)}")
        self.kind = kind


class _Values(dict[str, Any]):
    """Values by name; one that could not be computed raises where the assertion needs it."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if isinstance(value, _Raised):
            raise value
        return value


def _value(encoded: Any) -> Any:
    if isinstance(encoded, dict) and "raised" in encoded:
        return _Raised(*_raised(encoded["raised"]))
    return decode(encoded)


def _source_of(test: SplitTest, values: Sequence[Any], error: _Raised) -> str:
    return clip(test.sources[next(i for i, v in enumerate(values) if v is error)])


def _status(
    outcomes: _Outcomes, visible: Sequence[SplitTest], answer: Answer, limits: Limits
) -> tuple[Status, str, str]:
    """Status, feedback and the type of exception behind them, from the visible tests alone."""
    if outcomes.garbled:
        return Status.CRASHED, "the program disturbed the channel that its results go through", ""
    if outcomes.load_error is not None:
        kind = outcomes.load_error[0]
        status = Status.OUT_OF_MEMORY if kind == "MemoryError" else Status.CRASHED
        return status, _error_text(*outcomes.load_error), kind
    seen = outcomes.tests[: len(visible)]
    failed = next((outcome for outcome in seen if not outcome.passed), None)
    if len(seen) == len(visible):
        if failed is None:
            return Status.PASSED, "", ""
        memory = failed.raised == "MemoryError"
        return Status.OUT_OF_MEMORY if memory else Status.FAILED, failed.complaint, failed.raised
    where = f" in {visible[len(seen)].call}" if outcomes.loaded else ""
    if answer.timed_out:
        return Status.TIMED_OUT, f"timed out after {limits.wall:g} s{where}", ""
    if answer.too_much:
        return (
            Status.OUTPUT_CUT,
            f"returned more than {ANSWER_BYTES:,} bytes{where}; cut there",
            "",
        )
    return Status.CRASHED, f"{_ending(answer.exit_code)}{where}", ""


def _ending(exit_code: int) -> str:
    if exit_code < 0:
        return f"killed by signal {-exit_code}"
    return "the process ended before its tests did"


def _raised(encoded: Any) -> tuple[str, str, int | None]:
    kind, text, line = encoded
    if not isinstance(kind, str) or not isinstance(text, str) or not isinstance(line, int | None):
        raise ValueError("not a description of an exception")
    if line is not None and line < 1:
        raise ValueError("not a line")
    return kind[:_MOST_CHARACTERS], text[:_MOST_CHARACTERS], line


def _error_text(kind: str, text: str, line: int | None) -> str:
    text = _ADDRESS.sub("", text)  # differs from run to run
    message = f"{kind}: {text}" if text else kind
    return message + (f" (line {line})" if line is not None else "")


def _printable(text: str) -> str:
    """At most so many characters, none of which could do more than be seen."""
    shown = "".join(
        character if character.isprintable() or character == "\n" else repr(character)[1:-1]
        for character in text[: _MOST_CHARACTERS + 1]
    )
    return shown if len(shown) <= _MOST_CHARACTERS else shown[: _MOST_CHARACTERS - 4] + " ..."
