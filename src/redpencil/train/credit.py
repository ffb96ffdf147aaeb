"""Credit: from the rewards of a group's turns to an advantage for each turn. Pure functions.

A group is several traces of one task. Each rule takes the rewards of the group's traces, turn by
turn, and returns advantages of the same ragged shape; an advantage falls on the tokens that its
own turn's action was sampled as, and on no others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, pstdev

Rewards = Sequence[Sequence[float]]
"""`rewards[i][t]` is the reward of trace i in its turn t."""
Advantages = list[list[float]]
CreditRule = Callable[[Rewards], Advantages]

_EPSILON = 1e-4
"""Added to the deviation, so that a group whose rewards hardly differ teaches hardly anything."""


def paper(rewards: Rewards) -> Advantages:
    """Normalise each turn's reward over the traces that have such a turn (paper, RLVR).

    A turn that only one trace of the group reached has nothing to be compared with: advantage 0.
    """
    longest = max((len(trace) for trace in rewards), default=0)
    columns = [[trace[t] for trace in rewards if len(trace) > t] for t in range(longest)]
    return [
        [_normalised(reward, columns[t]) for t, reward in enumerate(trace)] for trace in rewards
    ]


def outcome(rewards: Rewards) -> Advantages:
    """Normalise each trace's total reward over the group and give it to all of its turns (GRPO)."""
    totals = [sum(trace) for trace in rewards]
    return [
        [_normalised(total, totals)] * len(trace)
        for total, trace in zip(totals, rewards, strict=True)
    ]


RULES: dict[str, CreditRule] = {"paper": paper, "outcome": outcome}


def per_token(advantages: Sequence[float], turns: Sequence[tuple[int, int]]) -> list[float]:
    """Spread a trace's advantages over its completion.

    Args:
        turns: for each turn, how many tokens its action has and how many the environment wrote
            after it.

    Returns:
        One advantage a token, 0.0 for the environment's tokens.
    """
    spread: list[float] = []
    for advantage, (action, environment) in zip(advantages, turns, strict=True):
        spread += [advantage] * action + [0.0] * environment
    return spread


def _normalised(value: float, values: Sequence[float]) -> float:
    return (value - fmean(values)) / (pstdev(values) + _EPSILON)
