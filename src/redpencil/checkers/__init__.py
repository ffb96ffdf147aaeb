"""Checkers: from a text to a verdict. Python tests come with the package; others can plug in."""

from __future__ import annotations

from typing import Protocol

from redpencil.checkers.python import PythonChecker
from redpencil.errors import SandboxError
from redpencil.types import Status, Task, Verdict

__all__ = ["Checker", "PythonChecker", "judge"]


class Checker(Protocol):
    """Judges the text of a page for a task. Called from several threads at once."""

    def check(self, text: str, task: Task) -> Verdict:
        """The verdict; a fault of the machinery is one too, with status `infra_error`."""


def judge(checker: Checker, text: str, task: Task) -> Verdict:
    """The verdict on the text of a page.

    Raises:
        SandboxError: the checker could not judge it, which says nothing of the text.
    """
    verdict = checker.check(text, task)
    if verdict.status is Status.INFRA_ERROR:
        raise SandboxError(verdict.detail)
    return verdict
