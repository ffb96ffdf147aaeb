"""Credit: from the rewards of a group's turns to an advantage for each turn. Pure functions.

A group is several traces of one task. Each rule takes, turn by turn, what the group's traces were
rewarded with and on which page, and returns advantages of the same ragged shape; an advantage
falls on the tokens that its own turn's action was sampled as, and on no others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean, pstdev
from typing import NamedTuple

from redpencil.recipes import Credit
from redpencil.types import Page, Trace


class Scored(NamedTuple):
    """A turn as credit sees it."""

    reward: float
    page: Page
    """What the action was taken on."""


Group = Sequence[Sequence[Scored]]
"""`group[i][t]` is trace i's turn t."""
Advantages = list[list[float]]
CreditRule = Callable[[Group], Advantages]

_EPSILON = 1e-4
"""Added to the deviation, so that a group whose rewards hardly differ teaches hardly anything."""
_DISCOUNT = 0.95
"""Of a reward, for each turn that it is away, among the actions taken on one page (GiGPO)."""


def paper(group: Group) -> Advantages:
    """Normalise each turn's reward over the traces that have such a turn (paper, RLVR).

    A turn that only one trace of the group reached has nothing to be compared with: advantage 0.
    An action is credited with its own turn's reward alone, and compared with those traces alone
    that lived as long: a policy that chooses when to stop is led astray by both.
    """
    longest = max(map(len, group), default=0)
    columns = [[trace[t].reward for trace in group if len(trace) > t] for t in range(longest)]
    return [
        [_normalised(turn.reward, columns[t]) for t, turn in enumerate(trace)] for trace in group
    ]


def outcome(group: Group) -> Advantages:
    """Normalise each trace's total reward over the group and give it to all of its turns (GRPO)."""
    totals = _totals(group)
    return [
        [_normalised(total, totals)] * len(trace)
        for total, trace in zip(totals, group, strict=True)
    ]


def returns(group: Group) -> Advantages:
    """What a trace earned from each turn on, less what the others did that lived as long.

    Where no other lived as long, it is compared with what they earned at their last turns. Either
    baseline is made of the other traces alone and depends on nothing that the trace itself did,
    hence the expected gradient is the policy gradient exactly. To count what has ended as 0 would
    be as unbiased, but every turn that outlives others would then be blamed for the fine at its
    trace's end, and traces that all fail would push the policy about at random. There is no
    division by a deviation: the deviation would depend on the trace's own actions, and would make
    the tasks that are almost always or almost never solved weigh most. A trace without others has
    no baseline: advantage 0.
    """
    if len(group) < 2:
        return [[0.0] * len(trace) for trace in group]
    to_go = [_to_go(trace) for trace in group]
    return [
        [
            earned - _expected(t, [values for j, values in enumerate(to_go) if j != i])
            for t, earned in enumerate(trace)
        ]
        for i, trace in enumerate(to_go)
    ]


def page_groups(group: Group) -> Advantages:
    """Compare actions taken on the same page, on top of comparing whole traces (GiGPO).

    The sum of two differences from a mean: a trace's total from the group's, and what it earned
    from a turn on, discounted, from that of all turns of the group that found the same page. A
    page found once adds nothing. There is no division by a deviation, which would blow up to the
    size of a solve what two ways to it differ by in length.
    """
    totals = _totals(group)
    to_go = [_to_go(trace, _DISCOUNT) for trace in group]
    from_page: dict[Page, list[float]] = defaultdict(list)
    for trace, values in zip(group, to_go, strict=True):
        for turn, value in zip(trace, values, strict=True):
            from_page[turn.page].append(value)
    return [
        [
            _centred(total, totals) + _centred(value, from_page[turn.page])
            for turn, value in zip(trace, values, strict=True)
        ]
        for trace, values, total in zip(group, to_go, totals, strict=True)
    ]


RULES: dict[Credit, CreditRule] = {
    "paper": paper,
    "outcome": outcome,
    "returns": returns,
    "page-groups": page_groups,
}


def of_traces(rule: CreditRule, traces: Sequence[Trace]) -> Advantages:
    """Advantages of a group's traces; one ended by a fault counts for nothing and nobody.

    The two halves of a command are credited as one, with what the whole of it came to.
    """
    whole = [trace for trace in traces if trace.end != "error"]
    scored = [[Scored(turn.reward, turn.observation.page) for turn in t.commands] for t in whole]
    advantages = iter(rule(scored))
    return [
        [0.0] * len(trace.turns)
        if trace.end == "error"
        else _for_each_half(next(advantages), trace)
        for trace in traces
    ]


def _for_each_half(advantages: Sequence[float], trace: Trace) -> list[float]:
    """A trace's advantages by turns, from those by commands."""
    rest = iter(advantages)
    spread: list[float] = []
    begun = False
    for turn in trace.turns:
        spread.append(spread[-1] if begun else next(rest))
        begun = turn.half
    return spread


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


def _totals(group: Group) -> list[float]:
    return [sum(turn.reward for turn in trace) for trace in group]


def _to_go(trace: Sequence[Scored], discount: float = 1.0) -> list[float]:
    """What the trace earned from each turn on."""
    values: list[float] = []
    value = 0.0
    for turn in reversed(trace):
        value = turn.reward + discount * value
        values.append(value)
    return values[::-1]


def _expected(turn: int, others: Sequence[Sequence[float]]) -> float:
    """The mean that other traces earned from a turn on, or at their last if none lived as long."""
    alive = [values[turn] for values in others if turn < len(values)]
    return fmean(alive or [values[-1] for values in others if values] or [0.0])


def _centred(value: float, values: Sequence[float]) -> float:
    """The difference from the mean, 0 to the letter where all values are equal."""
    return 0.0 if min(values) == max(values) else value - fmean(values)


def _normalised(value: float, values: Sequence[float]) -> float:
    return _centred(value, values) / (pstdev(values) + _EPSILON)
