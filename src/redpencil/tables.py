"""Results as tables of text, to be printed, or put into a page or a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redpencil.compare import Measured, Pair
from redpencil.results import Results, Score

NONE = "-"
"""Stands for a number that there is not."""

_ENDS = {
    "exit": "EXIT, or the answer",
    "solved": "tests passed",
    "truncated": "a limit",
    "cut_short": "want of room",
    "error": "a fault",
}


@dataclass(frozen=True)
class Table:
    """Headings, and rows with a cell for each; the first column is what the row is called."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    """What the columns mean."""
    bold: int | None = None
    """The column that matters most."""


def at_a_glance(measured: Sequence[Measured]) -> Table:
    """What is looked at first when an evaluation has ended, in eighty columns."""
    ks = _ks(measured)
    shares = ["solved", "95% interval", *(f"pass@{k}" for k in ks), "malformed"]
    return Table(
        ["", *shares, "turns", "tokens", "seconds"],
        [
            [
                one.label,
                *_shares(one.results, ks),
                _percent(one.results.malformed_rate),
                _number(one.results.mean_turns, 1),
                _number(one.results.mean_tokens),
                _number(one.results.seconds),
            ]
            for one in measured
        ],
    )


def results(measured: Sequence[Measured]) -> Table:
    """Share solved, and what it cost."""
    ks = _ks(measured)
    costs = ("turns", "tokens", "tokens per solved", "seconds per solved")
    shares = ["pass@1", "95% interval", *(f"pass@{k}" for k in ks)]
    headings = ["", "method", *shares, "programs", "traces each"]
    return Table(
        [*headings, *costs],
        [_results_row(one.label, one.results, ks) for one in measured],
        "pass@k: chance that at least one of k traces of a program ends solved, unbiased from the "
        "traces sampled of each; the interval is a bootstrap over problems. Turns and generated "
        "tokens are means per trace. Per solved: tokens and wall time of all the traces, over how "
        "many of them are solved.",
        bold=2,
    )


def actions(measured: Sequence[Measured]) -> Table:
    """What the actions were like, and how far the repairs went."""
    return Table(
        ["", "malformed", "unparsed", "no-op", "repeated", "edit distance"],
        [
            [
                one.label,
                _percent(one.results.malformed_rate),
                _percent(one.results.unparsed_rate),
                _percent(one.results.noop_rate),
                _percent(one.results.repetition_rate),
                _number(one.results.mean_edit_distance, 1),
            ]
            for one in measured
        ],
        "Shares of the actions. Malformed: the page could not take it; unparsed: it is no command "
        "at all. No-op: it left the page as it was. Repeated: the trace had taken it before on an "
        "identical page. Edit distance: characters between the broken program and the page that "
        "solved it, mean.",
    )


def by_turn(measured: Sequence[Measured]) -> Table:
    """Share solved at or before each turn; an evaluation whose traces are shorter stays put."""
    longest = max(len(one.results.solved_by_turn) for one in measured)
    return Table(
        ["", *(f"turn {turn}" for turn in range(1, longest + 1))],
        [
            [one.label, *map(_percent, stretched(one.results.solved_by_turn, longest))]
            for one in measured
        ],
        "Share of the traces in which all tests, hidden ones too, passed for the first time at or "
        "before a turn. A trace that spoils its page afterwards does not end solved.",
    )


def by_tokens(measured: Sequence[Measured]) -> Table:
    """Share solved with so many tokens, of the evaluations whose tokens are known."""
    curves = [(one.label, one.results.solved_by_tokens) for one in measured]
    known = [(label, curve) for label, curve in curves if curve is not None]
    marks = sorted({mark for _, curve in known for mark in curve})
    return Table(
        ["", *(f"{mark} tokens" for mark in marks)],
        [
            [label, *map(_percent, stretched(list(curve.values()), len(marks)))]
            for label, curve in known
        ],
        "The same by the tokens generated until then.",
    )


def by_group(measured: Sequence[Measured], scores: Sequence[Mapping[str, Score]]) -> Table:
    """Share solved within groups of the traces, of the evaluations that have any.

    Args:
        scores: of each evaluation, by the group's name.
    """
    groups = dict.fromkeys(group for found in scores for group in found)
    return Table(
        ["", *groups],
        [
            [one.label, *(_score(found.get(group)) for group in groups)]
            for one, found in zip(measured, scores, strict=True)
            if found
        ],
        "pass@1, its 95% interval, and how many programs it is of.",
    )


def pairs(found: Sequence[Pair]) -> Table:
    """Each pair of methods on the same programs."""
    return Table(
        ["", "against", "difference", "95% interval", "p", "won", "lost", "tied", "either"],
        [
            [
                pair.second,
                pair.first,
                f"{100 * pair.difference:+.1f}",
                f"{100 * pair.ci95[0]:+.1f} to {100 * pair.ci95[1]:+.1f}",
                "< 0.001" if pair.p_value < 0.001 else f"{pair.p_value:.3f}",
                *map(str, (pair.won, pair.lost, pair.tied)),
                f"{_percent(pair.either)} ({_interval(pair.either_ci95)})",
            ]
            for pair in found
        ],
        "Difference of pass@1 in percentage points over the same programs, with a bootstrap "
        "interval; p is that of an exact sign-flip permutation test, not corrected for the number "
        "of pairs. Won: programs solved more often than by the other. Either: chance that of one "
        "trace by each at least one ends solved, as where one is tried and then the other.",
        bold=2,
    )


def corruption_scores(found: Results) -> dict[str, Score]:
    """Scores by the number of corruptions, in words."""
    return {
        f"{count} corruption{'s' * (count != 1)}": score
        for count, score in found.by_corruptions.items()
    }


def fault_scores(found: Results) -> dict[str, Score]:
    """Scores by how the program fails, in words."""
    return {fault.replace("_", " "): score for fault, score in found.by_fault.items()}


def end_scores(found: Results) -> dict[str, Score]:
    """Scores by how the episode ended, in words."""
    return {_ENDS[end]: score for end, score in found.by_end.items()}


def stretched(curve: Sequence[float], length: int) -> list[float]:
    """A curve that goes on as it ended; all 0 if it never began."""
    return [*curve, *[curve[-1] if curve else 0.0] * (length - len(curve))]


def _ks(measured: Sequence[Measured]) -> list[int]:
    """The ks above 1 of whose pass@k any evaluation knows."""
    return sorted({at.k for one in measured for at in one.results.pass_at if at.k > 1})


def _shares(found: Results, ks: Sequence[int]) -> list[str]:
    """pass@1, its interval, and pass@k."""
    values = {at.k: at.value for at in found.pass_at}
    others = (_percent(values[k]) if k in values else NONE for k in ks)
    return [_percent(found.pass_at_1), f"{_interval(found.ci95)}%", *others]


def _results_row(label: str, found: Results, ks: Sequence[int]) -> list[str]:
    return [
        label,
        found.method,
        *_shares(found, ks),
        str(found.n),
        str(found.samples),
        _number(found.mean_turns, 1),
        _number(found.mean_tokens),
        _number(found.tokens_per_solved),
        _number(found.seconds_per_solved, 1),
    ]


def _score(score: Score | None) -> str:
    if score is None:
        return NONE
    return f"{_percent(score.pass_at_1)} ({_interval(score.ci95)}) of {score.n}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _interval(bounds: tuple[float, float]) -> str:
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def _number(value: float | None, digits: int = 0) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"
