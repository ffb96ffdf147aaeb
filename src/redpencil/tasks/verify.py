"""Whether tasks hold: the solution passes every test, and the broken program does not."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from redpencil.checkers import Checker, judge
from redpencil.provenance import usable_cores
from redpencil.types import Status, Task, Verdict


@dataclass(frozen=True)
class Finding:
    """What came of running the programs that a task has."""

    task: Task
    solution: Verdict | None
    program: Verdict | None

    @property
    def complaint(self) -> str:
        """Why the task does not hold, or the empty string."""
        if self.solution is not None and not self.solution.solved:
            return f"its solution fails: {self.solution.detail or 'a hidden test'}"
        if self.program is not None and self.program.solved:
            return "its broken program passes every test"
        return ""

    @property
    def only_hidden(self) -> bool:
        """Whether only hidden tests notice that the broken program is broken."""
        program = self.program
        return program is not None and program.status is Status.PASSED and not program.solved


def verify(tasks: Sequence[Task], checker: Checker) -> list[Finding]:
    """Run the solution and the broken program of every task, as far as it has them.

    Raises:
        SandboxError: the checker could not judge a program.
    """

    def found(task: Task) -> Finding:
        solution, program = (
            None if code is None else judge(checker, code, task)
            for code in (task.solution, task.program)
        )
        return Finding(task, solution, program)

    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(found, tasks))
