"""What a report says of its evaluations' numbers, in sections of tables and plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from redpencil import compare, tables
from redpencil.compare import Measured
from redpencil.report import plots
from redpencil.report.entries import Entry
from redpencil.results import Results, Score
from redpencil.tables import Table

_BREAKDOWNS: tuple[tuple[str, str, Callable[[Results], Mapping[str, Score]]], ...] = (
    ("corruptions", "By number of corruptions", tables.corruption_scores),
    ("faults", "By kind of failure", tables.fault_scores),
    ("ends", "By how the episode ended", tables.end_scores),
)


@dataclass(frozen=True)
class Section:
    """One heading, and the tables below it."""

    name: str
    title: str
    tables: Sequence[Table]


@dataclass(frozen=True)
class Plots:
    """A section's plots with their captions, and a key to their lines where there are several."""

    figures: Sequence[tuple[str, Markup]]
    keys: Sequence[tuple[str, Markup]]


def measured_of(entries: Sequence[Entry]) -> list[Measured]:
    """The evaluations among the entries."""
    return [Measured(one.label, one.results) for one in entries if one.results is not None]


def sections(entries: Sequence[Entry]) -> list[Section]:
    """The sections that there is something to say in; none where nothing was measured."""
    measured = measured_of(entries)
    if not measured:
        return []
    compute = [tables.by_turn(measured)]
    if any(one.results.solved_by_tokens for one in measured):
        compute.append(tables.by_tokens(measured))
    found = [
        Section("results", "Results", [tables.results(measured), tables.actions(measured)]),
        Section("compute", "Test-time compute", compute),
    ]
    for name, title, scores_of in _BREAKDOWNS:
        scores = [scores_of(one.results) for one in measured]
        if any(scores):
            found.append(Section(name, title, [tables.by_group(measured, scores)]))
    if pairs := compare.pairs(measured):
        found.append(Section("pairs", "Compared in pairs", [tables.pairs(pairs)]))
    return found


def section_plots(measured: Sequence[Measured]) -> dict[str, Plots]:
    """The plots of the sections that have some, by the section's name.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    if not measured:
        return {}
    found = {
        "results": Plots([("", plots.bars(measured))], []),
        "compute": Plots(_compute(measured), _keys(measured, "compute")),
    }
    for name, title, scores_of in _BREAKDOWNS[:2]:
        scores = [(one.label, scores_of(one.results)) for one in measured]
        if any(groups for _, groups in scores):
            figure = ("", plots.groups(scores, title))
            found[name] = Plots([figure], _keys(measured, name))
    return found


def _compute(measured: Sequence[Measured]) -> list[tuple[str, Markup]]:
    """Share solved by turn, and by tokens where these are known; shorter lines go on level."""
    longest = max(len(one.results.solved_by_turn) for one in measured)
    turns = [
        (one.label, list(enumerate([0.0, *tables.stretched(one.results.solved_by_turn, longest)])))
        for one in measured
    ]
    figures = [("Solved by turn", plots.shares(turns, "turns"))]
    known = [(one.label, one.results.solved_by_tokens or {}) for one in measured]
    if marks := sorted({mark for _, curve in known for mark in curve}):
        tokens = [(label, _points(marks, curve)) for label, curve in known]
        figures.append(
            ("Solved by generated tokens", plots.shares(tokens, "tokens", doubling=True))
        )
    return figures


def _points(marks: Sequence[int], curve: Mapping[int, float]) -> list[tuple[float, float]]:
    values = tables.stretched(list(curve.values()), len(marks))
    return list(zip(marks, values, strict=True)) if curve else []


def _keys(measured: Sequence[Measured], name: str) -> list[tuple[str, Markup]]:
    if len(measured) == 1:
        return []
    return [(one.label, plots.key(place, name)) for place, one in enumerate(measured)]
