"""Tasks that begin amid an episode: where a model's failed traces had got to."""

from __future__ import annotations

from pathlib import Path

import msgspec

from redpencil.errors import DataError
from redpencil.files import numbered_jsonl
from redpencil.tasks.source import TaskSet, counted
from redpencil.types import Status, Task, Trace


def from_traces(path: Path) -> TaskSet:
    """A task for each place, after a command, at which a failed trace of editing was open.

    Raises:
        DataError: names the file, the line and the field that are wrong.
    """
    tasks: dict[Task, Task] = {}
    traces = failed = 0
    for number, trace in numbered_jsonl(path, Trace):
        if trace.method != "coe":
            raise DataError(f"{path}, line {number}: its trace is of {trace.method}, not coe")
        traces += 1
        places = [place for place in open_places(trace) if place]
        failed += bool(places)
        for place in places:
            task = begun(trace, place)
            name = f"{task.id}#{len(tasks) + 1}"
            tasks.setdefault(task, msgspec.structs.replace(task, id=name))
    where = f"{failed} failed of {counted(traces, 'trace')} from {path}"
    return TaskSet(tuple(tasks.values()), f"{counted(len(tasks), 'place')} in {where}")


def begun(trace: Trace, place: int) -> Task:
    """The trace's task, in which so many of its commands have been given."""
    given = trace.task.given + tuple(turn.action for turn in trace.turns[:place])
    return msgspec.structs.replace(trace.task, given=given)


def open_places(trace: Trace) -> list[int]:
    """After how many turns of a failed trace it is open what comes next; a solved one has none."""
    if trace.solved or trace.end == "error":
        return []
    after = [
        number
        for number, turn in enumerate(trace.turns, 1)
        if turn.verdict.status is not Status.PASSED
        and (turn.edit is None or turn.edit.command != "EXIT")
    ]
    return [0, *after]
