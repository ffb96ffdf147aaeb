"""Methods side by side: evaluations that played the same broken programs, and each pair of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from statistics import fmean

import msgspec

from redpencil.errors import UsageError
from redpencil.results import Results, problem_of, read_results
from redpencil.statistics import Paired, bootstrap_interval, paired
from redpencil.types import Value

_SEED = 0


class Measured(Value, frozen=True):
    """One evaluation's numbers, under the name that it goes by in the comparison."""

    label: str
    results: Results


class Pair(Paired, frozen=True):
    """What one evaluation has over another, and what both come to together."""

    first: str
    second: str
    either: float
    """Chance that of a trace by each at least one ends solved, mean over programs."""
    either_ci95: tuple[float, float]
    """95% bootstrap interval of that over problems."""


class Comparison(Value, frozen=True):
    """What `redpencil compare` finds."""

    measured: tuple[Measured, ...]
    pairs: tuple[Pair, ...]
    """Every evaluation against each one before it."""


def compare(measured: Sequence[Measured]) -> Comparison:
    """Compare evaluations of the same broken programs, each pair of them program by program.

    Raises:
        UsageError: there are fewer than two, two of them did not play the same programs, or one
            does not say which.
    """
    if len(measured) < 2:
        raise UsageError("a comparison takes two evaluations or more")
    for other in measured[1:]:
        if (obstacle := _obstacle(measured[0], other)) is not None:
            raise UsageError(obstacle)
    return Comparison(tuple(measured), tuple(pairs(measured)))


def pairs(measured: Sequence[Measured]) -> list[Pair]:
    """Every two evaluations that played the same programs, the later one against the earlier."""
    return [
        _pair(first, second)
        for first, second in itertools.combinations(measured, 2)
        if _obstacle(first, second) is None
    ]


def read(paths: Sequence[Path]) -> list[Measured]:
    """Evaluations from their folders or files of results, named after these.

    Raises:
        DataError: a folder holds no evaluation, or a file is not what it should be.
    """
    return [
        Measured(label, read_results(path)) for label, path in zip(names(paths), paths, strict=True)
    ]


def names(paths: Sequence[Path]) -> list[str]:
    """A name for each path: its last part, or all of it where two would be called the same."""
    whole = [str(path).removesuffix(".json") for path in paths]
    short = [path.resolve().name.removesuffix(".json") for path in paths]
    return short if len(set(short)) == len(short) else whole


def _obstacle(one: Measured, other: Measured) -> str | None:
    """Why two evaluations cannot be compared, in words; None where they can."""
    for measured in (one, other):
        if not measured.results.outcomes:
            return (
                f"{measured.label} does not say which programs it solved (it has no `outcomes`, as "
                "results once had none): evaluate again, or name the folder with its traces.jsonl"
            )
    mine, others = one.results.outcomes.keys(), other.results.outcomes.keys()
    lone = min(mine ^ others, default=None)
    if lone is None:
        return None
    has, lacks = (one, other) if lone in mine else (other, one)
    return (
        f"{one.label} and {other.label} did not play the same programs: {lone.rpartition('#')[0]}, "
        f"broken as {has.label} has it, is not in {lacks.label}; evaluate both with the same "
        "source, corruptions, variants, limit and seed"
    )


def _pair(first: Measured, second: Measured) -> Pair:
    before, after = _shares(first), _shares(second)
    problems = list(map(problem_of, before))
    difference = paired(
        list(before.values()), [after[program] for program in before], _SEED, problems
    )
    either = [float(1 - (1 - share) * (1 - after[program])) for program, share in before.items()]
    return Pair(
        **msgspec.structs.asdict(difference),
        first=first.label,
        second=second.label,
        either=fmean(either),
        either_ci95=bootstrap_interval(either, _SEED, problems),
    )


def _shares(measured: Measured) -> dict[str, Fraction]:
    results = measured.results
    return {
        program: Fraction(solved, results.samples) for program, solved in results.outcomes.items()
    }
