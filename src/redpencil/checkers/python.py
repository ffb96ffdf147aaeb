"""The checker of Python programs: the task's tests, run in the sandbox."""

from __future__ import annotations

from dataclasses import dataclass, field

from redpencil.sandbox import Limits, Sandbox, default
from redpencil.types import Task, Verdict


@dataclass(frozen=True)
class PythonChecker:
    """Runs a page as a Python program against its task's tests, visible and hidden."""

    limits: Limits = field(default_factory=Limits)
    sandbox: Sandbox | None = None
    """Where programs run; None is the process's own."""

    def check(self, text: str, task: Task) -> Verdict:
        """Run the text; see `Sandbox.run`.

        Raises:
            UsageError: the task has no tests.
            DataError: a test is not Python.
            SandboxError: this machine cannot keep programs in.
        """
        return (self.sandbox or default()).run(
            text, task.tests, self.limits, setup=task.setup, hidden_tests=task.hidden_tests
        )
