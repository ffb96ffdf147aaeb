"""Which tasks a step samples: those that of late taught nothing rest for a while.

All that a curriculum knows follows from the traces recorded, so that a resumed run, which records
those on disk first, goes on as it would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from redpencil.types import Task, Trace


def always(group: Sequence[Trace]) -> bool:
    """Whether all of a group's traces solved their task; those that a fault ended do not count."""
    return {trace.solved for trace in group if trace.end != "error"} == {True}


def never(group: Sequence[Trace]) -> bool:
    """Whether none did; those that a fault ended do not count."""
    return {trace.solved for trace in group if trace.end != "error"} == {False}


def _alike(group: Sequence[Trace]) -> bool:
    """Whether the traces earned the same: a program that is right from the start can be left so at
    a fine, and then teaches EXIT.
    """
    return len({trace.reward for trace in group if trace.end != "error"}) == 1


class Curriculum:
    """Puts another task in the place of one that rests."""

    def __init__(self, tasks: Sequence[Task], rest_after: int, rest_steps: int, seed: int) -> None:
        """Start with all tasks awake.

        Args:
            tasks: those to sample by their place; one may stand at several.
            rest_after: groups in a row that solved a task never, or always and alike, after which
                it rests; 0 lets none rest.
            rest_steps: for how many steps.
        """
        self._tasks = tasks
        self._rest_after = rest_after
        self._rest_steps = rest_steps
        self._seed = seed
        self._settled: dict[Task, int] = {}
        self._sampled: dict[Task, int] = {}

    def record(self, group: Sequence[Trace], step: int) -> None:
        """Take note of the traces of one task that a step sampled."""
        if all(trace.end == "error" for trace in group):
            return
        task = group[0].task
        settled = never(group) or (always(group) and _alike(group))
        self._settled[task] = self._settled.get(task, 0) + 1 if settled else 0
        self._sampled[task] = step

    def rests(self, task: Task, step: int) -> bool:
        """Whether the task is not to be sampled in this step."""
        return (
            0 < self._rest_after <= self._settled.get(task, 0)
            and step - self._sampled[task] <= self._rest_steps
        )

    def resting(self, step: int) -> int:
        """How many tasks rest."""
        return sum(self.rests(task, step) for task in set(self._tasks))

    def choose(self, proposed: Sequence[int], step: int) -> list[int]:
        """The tasks to sample instead of those proposed, in order; both by their place.

        One that rests gives way to one that neither rests nor is proposed, as long as there is any.
        """
        taken = {self._tasks[place] for place in proposed}
        count = len(self._tasks)
        order = Random(f"{self._seed}:{step}").sample(range(count), count)
        # A task that stands at several places comes the sooner: sources keep their weights.
        first_places: dict[Task, int] = {}
        for place in order:
            first_places.setdefault(self._tasks[place], place)
        awake = (
            place
            for task, place in first_places.items()
            if task not in taken and not self.rests(task, step)
        )
        return [
            next(awake, place) if self.rests(self._tasks[place], step) else place
            for place in proposed
        ]
