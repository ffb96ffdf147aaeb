"""A user's own tasks: one JSON object a line, with the fields of `redpencil.types.Task`."""

from __future__ import annotations

import ast
from pathlib import Path

from redpencil.errors import DataError
from redpencil.files import numbered_jsonl
from redpencil.sandbox import can_be_hidden
from redpencil.tasks.source import TaskSet, counted
from redpencil.types import Task


def from_file(path: Path) -> TaskSet:
    """The tasks of a JSON-lines file.

    Raises:
        DataError: names the file, the line and the field that are wrong.
    """
    tasks: list[Task] = []
    seen: dict[str, int] = {}
    for number, task in numbered_jsonl(path, Task):
        where = f"{path}, line {number}"
        if task.id in seen:
            raise DataError(f"{where}: `id` {task.id!r} is taken by line {seen[task.id]} already")
        seen[task.id] = number
        if not task.tests and not task.hidden_tests:
            raise DataError(f"{where}: `tests` and `hidden_tests` are both empty")
        if task.program is None and task.solution is None:
            raise DataError(f"{where}: `program` and `solution` are both null")
        for field in ("tests", "hidden_tests"):
            for index, test in enumerate(getattr(task, field)):
                try:
                    ast.parse(test)
                except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                    why = str(error) or "it is nested too deeply"
                    raise DataError(f"{where}: `{field}[{index}]` is not Python: {why}") from error
        for index, test in enumerate(task.hidden_tests):
            if not can_be_hidden(test, task.solution or task.program or ""):
                raise DataError(
                    f"{where}: `hidden_tests[{index}]` cannot be split into a call and what is "
                    "expected of it, so that a program could read it: move it to `tests`"
                )
        tasks.append(task)
    return TaskSet(tuple(tasks), f"{counted(len(tasks), 'task')} from {path}")
