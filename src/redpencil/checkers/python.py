"""The checker of Python programs: the task's tests, run in the sandbox."""

from __future__ import annotations

from dataclasses import dataclass, field

from redpencil import sandbox
from redpencil.types import Task, Verdict


@dataclass(frozen=True)
class PythonChecker:
    """Runs a page as a Python program against its task's tests, visible and hidden."""

    limits: sandbox.Limits = field(default_factory=sandbox.Limits)

    def check(self, text: str, task: Task) -> Verdict:
        """Run the text; see `sandbox.run`.

        Raises:
            UsageError: the task has no tests.
        """
        return sandbox.run(
            text, task.tests, self.limits, setup=task.setup, hidden_tests=task.hidden_tests
        )
