"""Runs untrusted programs and says, from outside, whether they pass their tests.

A test is split (`split`) into a call, which the program computes behind walls (`inside`), and an
expectation, which never goes in: the plain values that come out (`values`) are judged here
(`verdict`). Programs run in forks of warm interpreters (`worker`), as many at once as there are
cores (`pool`), on the best rung of isolation that the machine has. docs/sandbox.md tells what that
protects from and what it does not.
"""

from __future__ import annotations

from redpencil.sandbox.limits import Limits
from redpencil.sandbox.pool import RUNG_VARIABLE, Program, Sandbox, default, run, rung_asked_for
from redpencil.sandbox.split import can_be_hidden
from redpencil.sandbox.worker import Rung

__all__ = [
    "RUNG_VARIABLE",
    "Limits",
    "Program",
    "Rung",
    "Sandbox",
    "can_be_hidden",
    "default",
    "run",
    "rung_asked_for",
]
