"""Episodes: a task, a checker, and rewards as data.

`EditEnv` is the paper's Chain-of-Edits, `PlaceEnv` the same with each line written where it will
stand. The others are what it is measured against: the whole
program in one answer (`AnswerEnv`), after thoughts in words (`ThinkEnv`), or in several answers
(`SelfRepairEnv`). `WriteEnv` asks for a program where there is none yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from redpencil.checkers import Checker
from redpencil.env.answer import (
    AnswerEnv,
    SelfRepairEnv,
    ThinkEnv,
    WriteEnv,
    answered_program,
    fenced,
    finished_program,
)
from redpencil.env.edit import EditEnv
from redpencil.env.place import PlaceEnv
from redpencil.env.protocol import PASS_MESSAGE, Decoding, EditRules, Env, RewardRule, Step
from redpencil.errors import UsageError
from redpencil.types import Task

__all__ = [
    "CHATS",
    "EDITS",
    "PASS_MESSAGE",
    "AnswerEnv",
    "Decoding",
    "EditEnv",
    "EditRules",
    "Env",
    "Method",
    "PlaceEnv",
    "RewardRule",
    "SelfRepairEnv",
    "Step",
    "ThinkEnv",
    "WriteEnv",
    "answered_program",
    "fenced",
    "finished_program",
    "repairing",
]

Method = Literal["coe", "in-place", "direct", "reasoning", "self-repair"]
"""How a program is repaired: by editing, each line written at once or in its place; or by whole
programs, in one answer, after thoughts, or in turns."""

EDITS = frozenset(env.method for env in (EditEnv, PlaceEnv))
"""The methods whose actions edit the page."""

CHATS = frozenset(env.method for env in (AnswerEnv, ThinkEnv, SelfRepairEnv))
"""The methods whose observations are a user's messages."""


def repairing(
    method: Method,
    task: Task,
    checker: Checker,
    rules: EditRules,
    examples: Sequence[Task] = (),
) -> Env:
    """The environment in which a task's program is repaired by a method.

    Args:
        rules: an episode's rewards and limits, as far as the method knows them.
        examples: other broken programs, shown with their solutions before a direct answer.

    Raises:
        UsageError: the task has no broken program, or begins amid editing.
    """
    if task.given and method != "coe":
        raise UsageError(f"{task.id} begins amid editing: leave out --method {method}")
    match method:
        case "coe":
            return EditEnv(task, checker, rules)
        case "in-place":
            return PlaceEnv(task, checker, rules)
        case "direct":
            return AnswerEnv(task, checker, examples, rules.reward)
        case "reasoning":
            return ThinkEnv(task, checker, examples, rules.reward)
        case "self-repair":
            return SelfRepairEnv(task, checker, examples, rules.reward, rules.max_turns)
