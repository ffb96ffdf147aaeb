"""Tests out of cases: what a function is given, and what is expected of it."""

from __future__ import annotations

from collections.abc import Iterable


def call(function: str, given: Iterable[object]) -> str:
    """A call of a function with plain values."""
    return f"{function}({', '.join(map(repr, given))})"


def asserted(called: str, expected: object, within: float | None = None) -> str:
    """The assert that a call gives what is expected, or is off by no more than `within`."""
    if within is not None:
        return f"assert abs({called} - {expected!r}) <= {within!r}"
    operator = "is" if expected is None or isinstance(expected, bool) else "=="
    return f"assert {called} {operator} {expected!r}"
