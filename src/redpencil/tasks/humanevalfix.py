"""HumanEvalFix, 164 bugs that people put into HumanEval's solutions (Muennighoff et al. 2023).

From the hub, or from a folder that holds `humanevalpack.jsonl`: the Python part of HumanEvalPack.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from redpencil.errors import DataError
from redpencil.sandbox import can_be_hidden
from redpencil.tasks.hub import Dataset
from redpencil.tasks.humaneval import VISIBLE, checks, describe, kept_whole, without
from redpencil.tasks.source import TaskSet, counted, tidy
from redpencil.types import Task

DATASET = Dataset("HumanEvalFix", "bigcode/humanevalpack", "python")
FILE = "humanevalpack.jsonl"


class _Problem(msgspec.Struct, frozen=True):
    task_id: str
    prompt: str
    """The code before the body: imports, helpers, signature and docstring."""
    canonical_solution: str
    buggy_solution: str
    entry_point: str
    test: str
    example_test: str
    imports: str | None = msgspec.field(name="import", default=None)
    test_setup: str | None = None


def humanevalfix(folder: Path | None = None) -> TaskSet:
    """HumanEvalFix's bugs, all in the split `test`: the examples visible, all other tests hidden.

    Of a problem without examples the first tests are visible, as HumanEval's are.

    Args:
        folder: where the file lies; else the hub.

    Raises:
        DataError: the file is missing or not what it should be.
        UsageError: there is no such folder, or none is named and the hub cannot be reached.
    """
    rows = DATASET.rows("test", FILE, folder, _Problem, "humanevalfix:FOLDER")
    tasks = [_task(problem, where) for where, problem in rows]
    summary = f"{counted(len(tasks), 'HumanEvalFix bug')}; {kept_whole(tasks)}"
    return TaskSet(tuple(tasks), summary)


def _task(problem: _Problem, where: str) -> Task:
    imports = f"{problem.imports.strip()}\n" if problem.imports else ""
    shared, entry = imports + problem.prompt, problem.entry_point
    solution = shared + problem.canonical_solution
    try:
        prompt, docstring = describe(solution, entry)
    except ValueError as error:
        raise DataError(f"{where}: `prompt` with `canonical_solution`: {error}") from error
    if docstring.stop > shared.count("\n"):
        raise DataError(f"{where}: `prompt`: the docstring of {entry!r} does not end in it")
    tests = checks(problem.test, entry, f"{where}: `test`")
    if not tests:
        raise DataError(f"{where}: `test` is empty")
    examples = checks(problem.example_test, entry, f"{where}: `example_test`") or tests[:VISIBLE]
    others = [test for test in dict.fromkeys(tests) if test not in examples]
    hidden = [test for test in others if can_be_hidden(test, solution)]
    return Task(
        id=f"humanevalfix/{problem.task_id.rpartition('/')[2]}",
        prompt=prompt,
        program=without(shared + problem.buggy_solution, docstring),
        solution=without(solution, docstring),
        tests=tuple(examples + [test for test in others if test not in hidden]),
        hidden_tests=tuple(hidden),
        setup=tidy(problem.test_setup or ""),
        split="test",
    )
