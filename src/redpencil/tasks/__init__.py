"""Where tasks come from: problems on board, your own doctests, published sets, JSON lines."""

from __future__ import annotations

import difflib
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from redpencil.errors import DataError, UsageError
from redpencil.tasks.overlap import disjoint
from redpencil.tasks.source import TaskSet, tasks_sha256
from redpencil.tasks.verify import Finding, verify
from redpencil.types import Split, Task

__all__ = [
    "SOURCES",
    "Finding",
    "TaskSet",
    "load",
    "load_examples",
    "load_other_splits",
    "pick",
    "tasks_sha256",
    "to_train_on",
    "verify",
]

SOURCES = (
    "builtin[:SPLIT]",
    "doctest:PATH",
    "mbpp[:SPLIT[:FOLDER]]",
    "humaneval",
    "humanevalfix[:FOLDER]",
    "quixbugs:FOLDER",
    "debugbench[:FOLDER]",
    "jsonl:PATH",
    "traces:PATH",
)


def load(source: str) -> TaskSet:
    """The tasks of a source.

    Args:
        source: `builtin`, `builtin:test`, `doctest:PATH`, `mbpp:train`, `mbpp:train:FOLDER`,
            `humaneval`, `humanevalfix`, `humanevalfix:FOLDER`, `quixbugs:FOLDER`, `debugbench`,
            `debugbench:FOLDER`, `jsonl:PATH` or `traces:PATH`; a split is `train`, `validation` or
            `test`.

    Raises:
        UsageError: there is no such source or split, or it holds no task.
        DataError: a file of it is not what it should be.
        MissingDependency: a package that the source needs is not installed.
    """
    kind, _, rest = source.partition(":")
    match kind:
        case "builtin":
            from redpencil.tasks.doctests import builtin

            found = builtin(_split(rest, source))
        case "doctest" if rest:
            from redpencil.tasks.doctests import from_path

            found = from_path(Path(rest))
        case "mbpp":
            from redpencil.tasks.mbpp import mbpp

            split, _, folder = rest.partition(":")
            found = mbpp(_split(split, source), Path(folder) if folder else None)
        case "humaneval" if not rest:
            from redpencil.tasks.humaneval import humaneval

            found = humaneval()
        case "humanevalfix":
            from redpencil.tasks.humanevalfix import humanevalfix

            found = humanevalfix(Path(rest) if rest else None)
        case "quixbugs" if rest:
            from redpencil.tasks.quixbugs import quixbugs

            found = quixbugs(Path(rest))
        case "debugbench":
            from redpencil.tasks.debugbench import debugbench

            found = debugbench(Path(rest) if rest else None)
        case "jsonl" if rest:
            from redpencil.tasks.jsonlines import from_file

            found = from_file(Path(rest))
        case "traces" if rest:
            from redpencil.tasks.traces import from_traces

            found = from_traces(Path(rest))
        case _:
            raise UsageError(f"no task source {source!r}; the sources are {', '.join(SOURCES)}")
    if not found.tasks:
        raise UsageError(f"no task in {source}: {found.summary}")
    ids = Counter(task.id for task in found.tasks)
    if twice := next((task_id for task_id, count in ids.items() if count > 1), None):
        raise DataError(f"{source} has {ids[twice]} tasks of the name {twice!r}")
    return found


def load_other_splits(source: str) -> tuple[Task, ...]:
    """The tasks of a source's other splits; none where it names no split."""
    kind, _, rest = source.partition(":")
    split, _, place = rest.partition(":")
    if kind not in ("builtin", "mbpp") or not split:
        return ()
    everything = load(f"{kind}::{place}" if place else kind)
    return tuple(task for task in everything.tasks if task.split != split)


def to_train_on(
    tasks: Iterable[Task], source: str, against: Iterable[str] = ()
) -> tuple[list[Task], list[tuple[Task, Task]]]:
    """Tasks of a source that are no problem of its other splits, nor of the sources `against`.

    Returns:
        Them, and those left out, each with the task whose problem it is.
    """
    others = [*load_other_splits(source), *(task for one in against for task in load(one).tasks)]
    return disjoint(tasks, others)


def load_examples(source: str) -> tuple[Task, ...]:
    """Solved tasks to show before those of a source: MBPP's for MBPP, else the problems on board.

    They are of the split `train`, whatever split the source is of.
    """
    kind, _, rest = source.partition(":")
    place = rest.partition(":")[2]
    if kind == "mbpp":
        return load(f"mbpp:train:{place}" if place else "mbpp:train").tasks
    return load("builtin:train").tasks


def pick(tasks: Sequence[Task], task_id: str | None, seed: int) -> Task:
    """The task of an id, or any.

    Args:
        seed: settles which, where no id is given.

    Raises:
        UsageError: no task has this id.
    """
    if task_id is None:
        return random.Random(seed).choice(tasks)
    for task in tasks:
        if task.id == task_id:
            return task
    close = difflib.get_close_matches(task_id, [task.id for task in tasks], 3, cutoff=0.5)
    hint = f"; close ones are {', '.join(close)}" if close else ""
    raise UsageError(f"no task {task_id!r}{hint}")


def _split(text: str, source: str) -> Split | None:
    if not text:
        return None
    for split in get_args(Split):
        if text == split:
            return split  # type: ignore[no-any-return]
    raise UsageError(f"no split {text!r} in {source}; the splits are train, validation and test")
