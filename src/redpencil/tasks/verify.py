"""Leaving out tasks whose own solution does not pass their tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from redpencil.types import Task, Verdict

Check = Callable[[str, Task], Verdict]


def verified(
    tasks: Sequence[Task], check: Check, workers: int = 2
) -> tuple[list[Task], list[tuple[Task, Verdict]]]:
    """Tasks whose solution passes every test, and the others with the verdict on theirs.

    Tasks without a solution are kept: there is nothing to run.
    """

    def judge(task: Task) -> Verdict | None:
        return None if task.solution is None else check(task.solution, task)

    with ThreadPoolExecutor(max_workers=workers) as pool:
        verdicts = list(pool.map(judge, tasks))
    kept, left_out = [], []
    for task, verdict in zip(tasks, verdicts, strict=True):
        if verdict is None or verdict.solved:
            kept.append(task)
        else:
            left_out.append((task, verdict))
    return kept, left_out
