"""Checkers: from a text to a verdict. Python tests come with the package; others can plug in."""

from __future__ import annotations

from typing import Protocol

from redpencil.checkers.python import PythonChecker
from redpencil.types import Task, Verdict

__all__ = ["Checker", "PythonChecker"]


class Checker(Protocol):
    """Judges the text of a page for a task. Called from several threads at once."""

    def check(self, text: str, task: Task) -> Verdict:
        """The verdict; a fault of the machinery is one too, with status `infra_error`."""
