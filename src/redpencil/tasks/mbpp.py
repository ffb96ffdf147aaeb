"""MBPP, 964 short problems (Austin et al. 2021), from the hub or from a folder.

The folder holds `train.jsonl`, `validation.jsonl` and `test.jsonl`, one problem a line with the
fields of the data set's `full` configuration.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import msgspec

from redpencil.tasks.hub import Dataset
from redpencil.tasks.source import TaskSet, counted, tidy
from redpencil.types import Split, Task

DATASET = Dataset("MBPP", "google-research-datasets/mbpp", "full")
FOLDER_VARIABLE = "REDPENCIL_MBPP"


class _Problem(msgspec.Struct, frozen=True):
    task_id: int
    text: str
    code: str
    test_list: list[str]
    test_setup_code: str
    challenge_test_list: list[str]


def mbpp(split: Split | None = None, folder: Path | None = None) -> TaskSet:
    """MBPP's problems: the usual tests visible, the challenge tests hidden.

    Args:
        folder: where the files lie; else the variable REDPENCIL_MBPP, else the hub.

    Raises:
        DataError: a file is missing or not what it should be.
        UsageError: there is no such folder, or none is named and the hub cannot be reached.
    """
    if folder is None and os.environ.get(FOLDER_VARIABLE):
        folder = Path(os.environ[FOLDER_VARIABLE])
    splits: Iterable[Split] = get_args(Split) if split is None else (split,)
    tasks: list[Task] = []
    line_ends = tabs = with_setup = 0
    for name in splits:
        instead = f"mbpp:{name}:FOLDER, or the variable {FOLDER_VARIABLE}"
        for _, problem in DATASET.rows(name, f"{name}.jsonl", folder, _Problem, instead):
            line_ends += "\r" in problem.code
            tabs += "\t" in problem.code
            with_setup += bool(problem.test_setup_code.strip())
            tasks.append(_task(problem, name))
    summary = (
        f"{counted(len(tasks), 'MBPP problem')}; normalised: CRLF in {line_ends}, tabs in {tabs}; "
        f"{with_setup} with setup code"
    )
    return TaskSet(tuple(tasks), summary)


def _task(problem: _Problem, split: Split) -> Task:
    return Task(
        id=f"mbpp/{problem.task_id}",
        prompt=problem.text.strip(),
        program=None,
        solution=tidy(problem.code),
        tests=tuple(test.strip() for test in problem.test_list),
        hidden_tests=tuple(test.strip() for test in problem.challenge_test_list),
        setup=tidy(problem.test_setup_code),
        split=split,
    )
