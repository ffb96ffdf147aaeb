"""Policies without a model that bound what editing can reach: the ceiling and the floor."""

from __future__ import annotations

import random

from redpencil import corrupt, editor
from redpencil.demos import Broken, Teacher
from redpencil.env import PASS_MESSAGE
from redpencil.policy import Action, Answer, FunctionPolicy
from redpencil.types import Edit, Observation, Page, Task


def oracle() -> FunctionPolicy:
    """Writes what the solution has and the page has not, line by line, to the end: the ceiling.

    An episode raises UsageError where the task has no solution.
    """

    def opening(task: Task, seed: int) -> Answer:
        return Teacher(Broken(task, (), ()), "direct", thorough=True)

    return FunctionPolicy(opening, "oracle")


def random_edits() -> FunctionPolicy:
    """Corrupts the page further, at random, until the tests happen to pass: the floor.

    Each command is one of the corruptions that break programs; lines that it puts in come from the
    page itself.
    """

    def opening(task: Task, seed: int) -> Answer:
        rng = random.Random(f"{seed}:{task.id}:{task.program}")

        def act(observation: Observation) -> Action:
            passed = observation.text.endswith(f"\n{PASS_MESSAGE}\n")
            edit = None if passed else _any_edit(observation.page, rng)
            return Action(editor.format_edit(edit or Edit("EXIT")))

        return act

    return FunctionPolicy(opening, "random-edit")


def _any_edit(page: Page, rng: random.Random) -> Edit | None:
    """A corruption of the page, all kinds alike as far as it has a place for them."""
    names = corrupt.names_of("all")
    for name in rng.sample(names, len(names)):
        edit = corrupt.CORRUPTIONS[name](page, rng, page)
        if edit is not None:
            return edit
    return None
