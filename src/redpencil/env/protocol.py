"""What an episode is to the rollout: an environment, its steps, and rewards as data."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import msgspec

from redpencil import editor
from redpencil.errors import UsageError
from redpencil.types import Edit, End, Observation, Page, Task, Value, Verdict

PASS_MESSAGE = "All tests pass."

Decoding = Literal["free", "well-formed", "new-pages"]
"""What can be sampled: anything, only commands that the page can take, or of these only EXIT and
those that lead to a page which the episode has not been at."""


class RewardRule(Value, frozen=True):
    """Rewards per turn (paper, section on RLVR); those that are 0 by default are ours."""

    solve: float = 1.0
    """Paid once, in the turn whose page first passes every test."""
    malformed: float = -0.5
    """For an action that is no command the page can take."""
    no_exit: float = -0.5
    """Added to the last turn when a limit ends the episode instead of EXIT."""
    noop: float = 0.0
    """For a command that leaves the page as it was."""
    given_up: float = 0.0
    """For EXIT on a page that fails visible tests."""
    nearer: float = 0.0
    """For each command by which the solution is nearer than before, and as much off for each by
    which it is further away. What an episode earns by it is settled by its first and last page,
    so that no detour pays (potential-based shaping: Ng, Harada and Russell, 1999)."""


class EditRules(Value, frozen=True):
    """What an episode of editing costs, and when it ends."""

    max_turns: int = 10
    """Of editing, or of answers in turns."""
    idle_turns: int | None = None
    """So many turns in a row that leave the page as it was end the episode as a limit does."""
    history: bool = True
    """Whether the policy keeps all pages in its context, or sees the task and the latest page."""
    until_solved: bool = False
    """End as soon as the visible tests pass, without waiting for EXIT."""
    reward: RewardRule = msgspec.field(default_factory=RewardRule)


class Step(NamedTuple):
    """What an action led to."""

    observation: Observation
    edit: Edit | None
    error: str
    verdict: Verdict
    reward: float
    end: End | None
    """Why the episode is over, or None while it goes on."""
    half: bool = False
    """Whether the action only began a command, which the next one completes."""


class Env(Protocol):
    """One episode of one task; the rollout owns the loop."""

    @property
    def task(self) -> Task: ...
    @property
    def method(self) -> str:
        """Name on the trace, such as `coe` or `direct`."""

    @property
    def chat(self) -> bool:
        """Whether the observation is a user's message to put into the model's chat template."""

    @property
    def max_tokens(self) -> int:
        """Most tokens an action may have."""

    def complete(self, text: str) -> bool:
        """Whether the action that begins with `text` needs nothing more."""

    def action(self, text: str) -> str:
        """The action proper in what was sampled, which may run past its end."""

    def grammar(self, decoding: Decoding) -> str | None:
        """What the next action has to be; None where it may be anything."""

    def leads_on(self, action: str) -> bool:
        """Whether an action would end the episode or lead to where it has not been."""

    def reset(self) -> Observation:
        """Start the episode.

        Raises:
            SandboxError: the checker could not judge the program.
        """

    def step(self, action: str) -> Step:
        """Take one action.

        Raises:
            SandboxError: the checker could not judge the program.
        """

    def cut_short(self) -> float:
        """The reward for being ended by a limit that the environment does not know of."""


def broken_page(task: Task) -> Page:
    """The page that a task's episode begins with.

    Raises:
        UsageError: the task has no broken program.
    """
    if task.program is None:
        raise UsageError(f"task {task.id} has no program to repair: corrupt its solution first")
    return editor.load_page(task.program)
