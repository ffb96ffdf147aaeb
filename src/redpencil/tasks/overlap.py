"""Keeping what is trained on apart from what is measured on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from redpencil.sameness import shape
from redpencil.types import Task


def disjoint(
    tasks: Iterable[Task], others: Iterable[Task]
) -> tuple[list[Task], list[tuple[Task, Task]]]:
    """Tasks that are no problem of `others`, and those that are, each with the one it equals.

    Two problems are the same where their words are, or their solutions but for spacing, comments
    and the names that they choose.
    """
    taken = {mark: other for other in others for mark in _marks(other)}
    kept, left_out = [], []
    for task in tasks:
        same = next((taken[mark] for mark in _marks(task) if mark in taken), None)
        if same is None:
            kept.append(task)
        else:
            left_out.append((task, same))
    return kept, left_out


def _marks(task: Task) -> Iterator[tuple[str, str]]:
    if words := " ".join(task.prompt.casefold().split()):
        yield "words", words
    if task.solution is not None:
        yield "solution", shape(task.solution)
