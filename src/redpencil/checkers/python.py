"""The checker of Python programs: the task's tests, run in the sandbox."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from redpencil.sandbox import Limits, Sandbox, default
from redpencil.types import Status, Task, Verdict

_Key = tuple[str, tuple[str, ...], tuple[str, ...], str]


@dataclass(frozen=True)
class PythonChecker:
    """Runs a page as a Python program against its task's tests, visible and hidden.

    A page that was judged is remembered: in a group of traces of one task, and in a demonstration
    that undoes what a corruption did, the same pages come again and again. Sent to another process
    it is that process's own with the same settings, and remembers what was judged there.
    """

    limits: Limits = field(default_factory=Limits)
    sandbox: Sandbox | None = None
    """Where programs run; None is the process's own."""
    trusting: bool = False
    """Whether tests that do not pass as judged from outside may pass judged inside, where objects
    that are no plain data can be told to be equal, and could deceive."""
    imported_as: str = ""
    """The module that the tests, in a namespace of their own, import the program as; where it is
    empty they run in the program's."""
    remembered: int = 4096
    """How many verdicts are kept; 0 runs every page."""
    _verdicts: dict[_Key, Verdict] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _lock: threading.Lock = field(
        default_factory=threading.Lock, init=False, repr=False, compare=False
    )

    def __reduce__(self) -> tuple[Any, ...]:
        return _own, (
            self.limits, self.sandbox, self.trusting, self.imported_as, self.remembered,
        )  # fmt: skip

    def check(self, text: str, task: Task) -> Verdict:
        """Run the text; see `Sandbox.run`.

        Raises:
            UsageError: the task has no tests.
            DataError: a test is not Python.
            SandboxError: this machine cannot keep programs in.
        """
        key = text, task.tests, task.hidden_tests, task.setup
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._run(text, task)
            if verdict.status is not Status.INFRA_ERROR and self.remembered:
                with self._lock:
                    self._verdicts[key] = verdict
                    if len(self._verdicts) > self.remembered:
                        del self._verdicts[next(iter(self._verdicts))]
        return verdict

    def _run(self, text: str, task: Task) -> Verdict:
        run = partial(
            (self.sandbox or default()).run,
            text,
            task.tests,
            self.limits,
            setup=task.setup,
            hidden_tests=task.hidden_tests,
            imported_as=self.imported_as,
        )
        verdict = run()
        if self.trusting and verdict.status is Status.FAILED and verdict.inside < verdict.total:
            inside = run(whole=True)
            if inside.passed > verdict.passed:
                return inside
        return verdict


@cache
def _own(*settings: Any) -> PythonChecker:
    return PythonChecker(*settings)
