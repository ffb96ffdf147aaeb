"""The values that flow through redpencil: all frozen, all with one strict JSON form.

`Task` → `Observation` → `Edit` → `Verdict` → `Turn` → `Trace`. A trace is what every part of the
project meets in: a demonstration, an evaluation, a GRPO group and a repair are all traces.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

Command = Literal["ADDL", "REPL", "REPW", "DELL", "EXIT"]
Split = Literal["train", "validation", "test"]
Page = tuple[str, ...]
"""The editor's text: its lines, none of which holds a line end."""


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all values: immutable, compared by content, unknown JSON fields refused."""


class Task(Value, frozen=True, omit_defaults=True):
    """A problem to solve on a page, and the tests that say when it is solved."""

    id: str
    """Unique within its source, such as `builtin/strings.mask_digits` or `mbpp/601`."""
    prompt: str
    """The task in words."""
    program: str | None
    """The broken program, or None where the task is to corrupt `solution` first."""
    solution: str | None
    """A program known to be right, or None."""
    tests: tuple[str, ...]
    """Statements such as `assert f(1) == 2`; the policy sees them."""
    hidden_tests: tuple[str, ...]
    """Further tests that must pass too and that the policy never sees."""
    setup: str
    """Code run after the program and before each test, or the empty string."""
    split: Split
    fault: str = ""
    """How `program` fails, where that was seen: `wrong_answer`, `NameError`..., else empty."""
    given: tuple[str, ...] = ()
    """Commands already given to `program` when an episode of editing begins."""


class Edit(Value, frozen=True):
    """One command of the editing language, parsed.

    `line` counts from 1 and is 0 for EXIT; `text` is the new content (ADDL, REPL, REPW);
    `old` is the string that REPW replaces.
    """

    command: Command
    line: int = 0
    text: str = ""
    old: str = ""


class Status(StrEnum):
    """How running a program against its tests ended."""

    PASSED = "passed"
    FAILED = "failed"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_CUT = "output_cut"
    INFRA_ERROR = "infra_error"


class Verdict(Value, frozen=True):
    """What a checker says of one text."""

    status: Status
    """The outcome on the visible tests."""
    passed: int
    total: int
    """Of the visible tests: how many passed, how many there are."""
    detail: str
    """Feedback a person would want; only ever about visible tests. Empty when all pass."""
    seconds: float
    """Wall time of the run."""
    rung: str
    """The isolation that the program ran under, `full`, `no-namespace` or `rlimits`."""
    inside: int = 0
    """How many tests could not be split and were judged inside the program's own process, where
    a program made to deceive could pass them unearned."""
    hidden_passed: int = 0
    hidden_total: int = 0
    raised: str = ""
    """Type of the exception that `detail` tells of, such as `NameError`, or the empty string."""

    @property
    def solved(self) -> bool:
        """Whether every test passes, the hidden ones too."""
        return self.status is Status.PASSED and self.hidden_passed == self.hidden_total

    @property
    def fault(self) -> str:
        """The class of a failure: the exception's type, `wrong_answer`, or how the run ended."""
        if self.raised:
            return self.raised
        return "wrong_answer" if self.status is Status.FAILED else self.status.value


class Observation(Value, frozen=True, omit_defaults=True):
    """What the policy is shown before it acts."""

    text: str
    """Exactly what is appended to the policy's context."""
    page: Page
    """The page as it stands."""
    fresh: bool = False
    """Whether the policy is to forget all that came before, so that `text` is its whole context."""


class Turn(Value, frozen=True):
    """One observation, the action taken on it, and what came of it."""

    observation: Observation
    action: str
    """The policy's text, verbatim, without the line end that closes it."""
    edit: Edit | None
    """The action's parse; None when it is malformed (or is no edit, as in a direct answer, or as
    one half of a command)."""
    error: str
    """Why the action was malformed or could not be applied, else empty."""
    verdict: Verdict
    """Of the page after the action."""
    reward: float
    observation_ids: tuple[int, ...] = ()
    """Token ids appended to the context for the observation; empty for policies without tokens."""
    action_ids: tuple[int, ...] = ()
    """Token ids exactly as sampled; never re-tokenised from `action`."""
    logprobs: tuple[float, ...] = ()
    """Log-probability of each action id under the sampling policy, at temperature 1 but vLLM's."""
    given: bool = False
    """Whether the action was put into the policy's mouth, and nothing is learned from it."""
    discarded: int = 0
    """Tokens sampled for other actions that were weighed against this one."""
    half: bool = False
    """Whether the action only began a command, which the next turn's completes."""

    @property
    def tokens(self) -> int:
        """Tokens sampled in this turn, in whatever became of them."""
        return len(self.action_ids) + self.discarded


End = Literal["exit", "solved", "truncated", "cut_short", "error"]


class Trace(Value, frozen=True):
    """The record of one episode."""

    task: Task
    method: str
    """The environment that was played, such as `coe` or `direct`; see `redpencil.env`."""
    policy: str
    """Who acted: a model's name, `demo:direct`, `human`..."""
    seed: int
    """Seed of this episode's sampling."""
    turns: tuple[Turn, ...]
    final: Observation
    """The state after the last action."""
    end: End
    """`exit` and `solved` are terminations, `truncated` and `cut_short` truncations: by a limit of
    the environment's, or by the policy's context, which has no room for an action; `error` is no
    result at all.
    """
    solved: bool
    """Whether the page the episode ended on passes every test, hidden ones too."""
    corruptions: tuple[str, ...] = ()
    """Names of the corruptions that broke the task's solution, where that is how it was broken."""
    error: str = ""
    """The fault of the infrastructure that ended the episode, else empty."""

    @property
    def reward(self) -> float:
        """Sum of the turns' rewards."""
        return sum(turn.reward for turn in self.turns)

    @property
    def commands(self) -> tuple[Turn, ...]:
        """The turns, those that two halves of a command were taken in as one."""
        whole: list[Turn] = []
        begun: Turn | None = None
        for turn in self.turns:
            begun = turn if begun is None else _joined(begun, turn)
            if not turn.half:
                whole.append(begun)
                begun = None
        return (*whole, begun) if begun else tuple(whole)


def _joined(first: Turn, second: Turn) -> Turn:
    return msgspec.structs.replace(
        second,
        observation=first.observation,
        action=first.action + second.action,
        reward=first.reward + second.reward,
        observation_ids=first.observation_ids,
        action_ids=first.action_ids + second.action_ids,
        logprobs=first.logprobs + second.logprobs,
        discarded=first.discarded + second.discarded,
    )
