"""What a step's traces say of the policy, as numbers for the log."""

from __future__ import annotations

import time
from collections.abc import Sequence

from redpencil.checkers import Checker
from redpencil.policy import ModelPolicy, Outcome, Session
from redpencil.results import noops
from redpencil.train.credit import Advantages
from redpencil.train.curriculum import always, never
from redpencil.types import Task, Trace, Verdict

NIL = 1e-6
"""Advantages up to this size are what rounding leaves of 0."""


def trace_metrics(traces: Sequence[Trace], max_turns: int) -> dict[str, float]:
    """Rates and means over the traces that no fault ended, of which there must be one.

    `reward_turn_3` is what the third turn, be it in halves, earned, averaged over all traces, so
    that the turns add up to the reward; a trace that had ended earned 0.
    """
    whole = [trace for trace in traces if trace.end != "error"]
    commands = [trace.commands for trace in whole]
    turns = [turn for taken in commands for turn in taken]
    rewards = {
        f"reward_turn_{t + 1}": sum(taken[t].reward for taken in commands if len(taken) > t)
        / len(whole)
        for t in range(max_turns)
    }
    return {
        "solved_rate": sum(trace.solved for trace in whole) / len(whole),
        "malformed_rate": sum(bool(turn.error) for turn in turns) / len(turns),
        "noop_rate": sum(sum(noops(trace)) for trace in whole) / len(turns),
        "turns": len(turns) / len(whole),
        "errors": len(traces) - len(whole),
        **rewards,
    }


def group_metrics(
    groups: Sequence[Sequence[Trace]], advantages: Sequence[Advantages]
) -> dict[str, float]:
    """Shares of the groups; an idle one got no advantage other than 0, and teaches nothing."""
    idle = sum(all(abs(a) <= NIL for trace in group for a in trace) for group in advantages)
    return {
        "idle_groups": idle / len(groups),
        "always_solved_groups": sum(map(always, groups)) / len(groups),
        "never_solved_groups": sum(map(never, groups)) / len(groups),
    }


class TimedChecker:
    """A checker that keeps how long each call took, in whatever thread."""

    def __init__(self, checker: Checker) -> None:
        self.seconds: list[float] = []
        self._checker = checker

    def check(self, text: str, task: Task) -> Verdict:
        started = time.perf_counter()
        verdict = self._checker.check(text, task)
        self.seconds.append(time.perf_counter() - started)
        return verdict


class TimedPolicy(ModelPolicy):
    """A model's policy that keeps how long it computed."""

    seconds = 0.0

    def step(self) -> list[tuple[Session, Outcome]]:
        started = time.perf_counter()
        outcomes = super().step()
        self.seconds += time.perf_counter() - started
        return outcomes
