"""Methods side by side: evaluations that played the same broken programs, and each pair of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import msgspec

from redpencil.errors import UsageError
from redpencil.results import Results, outcomes, read_evaluation
from redpencil.statistics import Paired, paired
from redpencil.types import Trace, Value

_SEED = 0


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, under the name that it goes by in the comparison."""

    label: str
    results: Results
    traces: Sequence[Trace]


class Measured(Value, frozen=True):
    """One evaluation's name and numbers."""

    label: str
    results: Results


class Pair(Paired, frozen=True):
    """What one evaluation has over another."""

    first: str
    second: str


class Comparison(Value, frozen=True):
    """What `redpencil compare` finds."""

    measured: tuple[Measured, ...]
    pairs: tuple[Pair, ...]
    """Every evaluation against each one before it."""


def compare(evaluations: Sequence[Evaluation]) -> Comparison:
    """Compare evaluations of the same broken programs, each pair of them program by program.

    Raises:
        UsageError: there are fewer than two, or two of them did not play the same programs.
    """
    if len(evaluations) < 2:
        raise UsageError("a comparison takes two evaluations or more")
    for other in evaluations[1:]:
        if (difference := first_difference(evaluations[0], other)) is not None:
            raise UsageError(difference)
    return Comparison(
        tuple(Measured(one.label, one.results) for one in evaluations),
        tuple(pairs(evaluations)),
    )


def pairs(evaluations: Sequence[Evaluation]) -> list[Pair]:
    """Every two evaluations that played the same programs, the later one against the earlier."""
    return [
        _pair(first, second)
        for first, second in itertools.combinations(evaluations, 2)
        if first_difference(first, second) is None
    ]


def first_difference(one: Evaluation, other: Evaluation) -> str | None:
    """In words, the first program that only one of two evaluations played; None where all agree."""
    mine, others = outcomes(one.traces).keys(), outcomes(other.traces).keys()
    lone = min(mine ^ others, default=None)
    if lone is None:
        return None
    has, lacks = (one, other) if lone in mine else (other, one)
    return (
        f"{one.label} and {other.label} did not play the same programs: {lone[0]}, broken as "
        f"{has.label} has it, is not in {lacks.label}; evaluate both with the same source, "
        "corruptions, variants, limit and seed"
    )


def read(folders: Sequence[Path]) -> list[Evaluation]:
    """Evaluations from their folders, named after these.

    Raises:
        DataError: a folder holds no evaluation, or a file is not what it should be.
    """
    return [
        Evaluation(label, *read_evaluation(folder))
        for label, folder in zip(names(folders), folders, strict=True)
    ]


def names(paths: Sequence[Path]) -> list[str]:
    """A name for each path: its last part, or all of it where two would be called the same."""
    short = [path.resolve().name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _pair(first: Evaluation, second: Evaluation) -> Pair:
    before, after = _shares(first), _shares(second)
    difference = paired(list(before.values()), [after[program] for program in before], _SEED)
    return Pair(**msgspec.structs.asdict(difference), first=first.label, second=second.label)


def _shares(evaluation: Evaluation) -> dict[tuple[str, str], Fraction]:
    return {
        program: Fraction(sum(solved), len(solved))
        for program, solved in outcomes(evaluation.traces).items()
    }
