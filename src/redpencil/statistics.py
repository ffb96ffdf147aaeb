"""Numbers from numbers: pass@k, intervals, and whether two methods differ on the same tasks."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from fractions import Fraction
from statistics import fmean
from typing import TypeVar

from redpencil.errors import UsageError
from redpencil.types import Value

_RESAMPLES = 2000

T = TypeVar("T")


class Paired(Value, frozen=True):
    """Two methods on the same programs: what the second has over the first."""

    difference: float
    """Mean over programs of the second's share solved less the first's, -1 to 1."""
    ci95: tuple[float, float]
    """95% bootstrap interval of the difference over problems."""
    p_value: float
    """Of `sign_flip_p`: how often chance alone makes a difference as large."""
    won: int
    """Programs that the second solves more often than the first."""
    lost: int
    tied: int


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that one of `k` samples or more is right, unbiased (Chen et al., arXiv 2107.03374).

    Args:
        n: samples taken of a task.
        c: how many of them are right.

    Raises:
        UsageError: there are fewer than `k` samples, or the numbers make no sense.
    """
    if k < 1 or not 0 <= c <= n:
        raise UsageError(f"pass@{k} of {n} samples, {c} of them right, means nothing")
    if n < k:
        raise UsageError(f"pass@{k} needs {k} samples of each task or more: there are {n}")
    return float(1 - Fraction(math.comb(n - c, k), math.comb(n, k)))


def bootstrap_interval(
    values: Sequence[float], seed: int, problems: Sequence[str] | None = None
) -> tuple[float, float]:
    """95% percentile bootstrap interval of the mean of a share, 0 to 1, for each program.

    What is drawn is problems, each with all of its programs: several faults of one problem are hard
    or easy together, and to draw them one by one would make the interval too narrow. Where all
    values are alike, such as 0, to draw again shows nothing: the interval then allows for the share
    of problems that may be otherwise, by the exact interval of a share (Clopper and Pearson 1934).

    Args:
        values: at least one.
        problems: the one that each value is of; None where every value has its own.
    """
    return _interval(_by_problem(values, problems), seed, 0.0, 1.0)


def _interval(
    groups: Sequence[Sequence[float]], seed: int, least: float, most: float
) -> tuple[float, float]:
    """The interval of the mean of values between `least` and `most`, grouped by problem."""
    value, *others = set(itertools.chain(*groups))
    if not others:
        otherwise = 1 - 0.025 ** (1 / len(groups))  # at most such a share of all problems is
        return value + otherwise * (least - value), value + otherwise * (most - value)
    rng = random.Random(seed)
    means = sorted(
        fmean([*itertools.chain(*rng.choices(groups, k=len(groups)))]) for _ in range(_RESAMPLES)
    )
    tail = round(0.025 * _RESAMPLES)
    return means[tail], means[-tail - 1]


def paired(
    first: Sequence[Fraction],
    second: Sequence[Fraction],
    seed: int,
    problems: Sequence[str] | None = None,
) -> Paired:
    """Compare two methods by their shares solved of the same programs, in the same order.

    Args:
        problems: the one that each program is of; None where every program has its own.

    Raises:
        UsageError: there is no program, or not as many of the one as of the other.
    """
    if not first or len(first) != len(second):
        raise UsageError(f"{len(first)} and {len(second)} programs cannot be compared in pairs")
    differences = [after - before for before, after in zip(first, second, strict=True)]
    values = [float(difference) for difference in differences]
    return Paired(
        difference=fmean(values),
        ci95=_interval(_by_problem(values, problems), seed, -1.0, 1.0),
        p_value=sign_flip_p(
            [sum(group, Fraction()) for group in _by_problem(differences, problems)]
        ),
        won=sum(difference > 0 for difference in differences),
        lost=sum(difference < 0 for difference in differences),
        tied=sum(difference == 0 for difference in differences),
    )


def sign_flip_p(differences: Sequence[Fraction]) -> float:
    """Two-sided p-value of the sign-flip permutation test on one difference a problem, exact.

    If two methods are alike, every problem's difference, that of all its programs together, might
    as well have had the other sign. The p-value is the share of all ways to set the signs whose sum
    lies as far from 0 as what was seen.

    Why this one: pairing takes out how hard the problems are, which differs more than methods do.
    The test supposes nothing of how differences are spread, which a t-test does and few problems
    with shares of 0 or 1 belie. It takes shares of several samples, where McNemar's test takes one
    outcome a problem; with one program and one sample each it is McNemar's exact test. Shares are
    fractions with a small common denominator, so that the distribution of the sum is counted out
    whole and no chance enters. That takes as many steps as there are problems times the units in
    the sum.
    """
    unit = math.lcm(*(difference.denominator for difference in differences))
    units = [int(difference * unit) for difference in differences if difference]
    divisor = math.gcd(*units) or 1
    sizes = [abs(size) // divisor for size in units]
    total, seen = sum(sizes), abs(sum(units)) // divisor
    chances = [1.0]  # of each sum of the sizes whose sign is plus
    for size in sizes:
        others = [0.0] * size
        pairs = zip(chances + others, others + chances, strict=True)
        chances = [(minus + plus) / 2 for minus, plus in pairs]
    extreme = (chance for plus, chance in enumerate(chances) if abs(2 * plus - total) >= seen)
    return min(1.0, math.fsum(extreme))


def _by_problem(values: Sequence[T], problems: Sequence[str] | None) -> list[list[T]]:
    """The values of each problem, in the order in which the problems first come."""
    if problems is None:
        return [[value] for value in values]
    groups: dict[str, list[T]] = {}
    for problem, value in zip(problems, values, strict=True):
        groups.setdefault(problem, []).append(value)
    return list(groups.values())
