"""Numbers from numbers: pass@k, intervals, and whether two methods differ on the same tasks."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from fractions import Fraction
from statistics import fmean

from redpencil.errors import UsageError
from redpencil.types import Value

_RESAMPLES = 2000


class Paired(Value, frozen=True):
    """Two methods on the same tasks: what the second has over the first."""

    difference: float
    """Mean over tasks of the second's share solved less the first's, -1 to 1."""
    ci95: tuple[float, float]
    """95% bootstrap interval of the difference over tasks."""
    p_value: float
    """Of `sign_flip_p`: how often chance alone makes a difference as large."""
    won: int
    """Tasks that the second solves more often than the first."""
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


def bootstrap_interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    """95% percentile bootstrap interval of the mean of one value a task; at least one value."""
    rng = random.Random(seed)
    means = sorted(fmean(rng.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    tail = round(0.025 * _RESAMPLES)
    return means[tail], means[-tail - 1]


def paired(first: Sequence[Fraction], second: Sequence[Fraction], seed: int) -> Paired:
    """Compare two methods by their shares solved of the same tasks, in the same order.

    Raises:
        UsageError: there is no task, or not as many of the one as of the other.
    """
    if not first or len(first) != len(second):
        raise UsageError(f"{len(first)} and {len(second)} tasks cannot be compared in pairs")
    differences = [after - before for before, after in zip(first, second, strict=True)]
    values = [float(difference) for difference in differences]
    return Paired(
        difference=fmean(values),
        ci95=bootstrap_interval(values, seed),
        p_value=sign_flip_p(differences),
        won=sum(difference > 0 for difference in differences),
        lost=sum(difference < 0 for difference in differences),
        tied=sum(difference == 0 for difference in differences),
    )


def sign_flip_p(differences: Sequence[Fraction]) -> float:
    """Two-sided p-value of the sign-flip permutation test on one difference a task, exact.

    If two methods are alike, every task's difference might as well have had the other sign. The
    p-value is the share of all ways to set the signs whose sum lies as far from 0 as what was seen.

    Why this one: pairing takes out how hard the tasks are, which differs more than methods do. The
    test supposes nothing of how differences are spread, which a t-test does and few tasks with
    shares of 0 or 1 belie. It takes shares of several samples, where McNemar's test takes one
    outcome a task; with one sample each it is McNemar's exact test. Shares are fractions with a
    small common denominator, so that the distribution of the sum is counted out whole and no
    chance enters. That takes as many steps as there are tasks times the units in the sum.
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
