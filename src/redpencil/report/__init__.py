"""Results and traces as one HTML page that needs nothing but itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from redpencil.errors import DataError
from redpencil.evaluate import RESULTS, TRACES, Results
from redpencil.jsonl import atomic_write, read_json, read_jsonl
from redpencil.report import plots, view
from redpencil.types import Trace

__all__ = ["Curve", "Entry", "build", "from_folder", "write"]

_ORDER = ("direct", "base", "sft", "grpo")
_NAMES = {
    "direct": "direct answer, zero-shot",
    "base": "editing, untrained",
    "sft": "editing, after SFT",
    "grpo": "editing, after SFT + GRPO",
}
_CURVES = (
    ("sft", "loss", "SFT: loss on the model's own tokens"),
    ("grpo", "solved_rate", "GRPO: share of traces solved"),
    ("grpo", "reward", "GRPO: mean reward of a trace"),
)


@dataclass(frozen=True)
class Entry:
    """One evaluation on the page."""

    label: str
    results: Results
    traces: Sequence[Trace]


@dataclass(frozen=True)
class Curve:
    """One learning curve: points (step, value)."""

    label: str
    points: Sequence[tuple[float, float]]


def from_folder(folder: Path) -> tuple[list[Entry], list[Curve]]:
    """What a folder holds: a run with `eval/*`, one evaluation, or a file of traces.

    Raises:
        DataError: there is nothing to report, or a file is not what it should be (line named).
    """
    if folder.is_file():
        return _traces_alone(folder)
    if (folder / RESULTS).exists():
        return [_entry(folder)], []
    found = [path.parent for path in folder.glob(f"eval/*/{RESULTS}")]
    if not found:
        raise DataError(
            f"nothing to report in {folder}: neither {RESULTS} nor eval/*/{RESULTS}; "
            "`redpencil eval ... --out FOLDER` writes them"
        )
    rank = {name: place for place, name in enumerate(_ORDER)}
    found.sort(key=lambda path: (rank.get(path.name, len(rank)), path.name))
    return [_entry(path) for path in found], _curves(folder)


def build(
    title: str,
    entries: Sequence[Entry],
    curves: Sequence[Curve],
    *,
    gallery: int = 12,
    seed: int = 0,
) -> str:
    """The page's HTML; the same arguments give the same text.

    Args:
        gallery: traces shown of each entry, half of them solved where there are as many.
        seed: chooses them.
    """
    shown = [
        view.trace(trace, entry.label)
        for entry in entries
        for trace in _choose(entry.traces, gallery, random.Random(seed))
    ]
    rows = [entry for entry in entries if entry.results.n]
    return str(
        _template().render(
            title=title,
            entries=rows,
            labels=[entry.label for entry in entries],
            results_plot=plots.bars(rows) if rows else "",
            curves=[(curve.label, plots.line(curve)) for curve in curves],
            traces=shown,
            code_css=view.code_css(),
        )
    )


def write(path: Path, title: str, entries: Sequence[Entry], curves: Sequence[Curve]) -> None:
    """Build the page and write it, atomically.

    Raises:
        UsageError: the file cannot be written.
    """
    page = build(title, entries, curves)
    with atomic_write(path) as file:
        file.write(page.encode("utf-8", "replace"))


def _entry(folder: Path) -> Entry:
    results = read_json(folder / RESULTS, Results)
    label = _NAMES.get(folder.name, folder.name)
    return Entry(label, results, read_jsonl(folder / TRACES, Trace))


def _traces_alone(file: Path) -> tuple[list[Entry], list[Curve]]:
    traces = read_jsonl(file, Trace)
    if not traces:
        raise DataError(f"no traces in {file}")
    nothing = Results(
        method=traces[0].method,
        tasks=file.name,
        n=0,
        samples=0,
        pass_at_1=0.0,
        ci95=(0.0, 0.0),
        malformed_rate=0.0,
        unparsed_rate=0.0,
        mean_turns=0.0,
        mean_tokens=0.0,
        seconds=0.0,
        errors=0,
        base_model="",
        adapter=None,
        command="",
        seed=0,
        versions={},
        machine="",
        git_commit="",
    )
    return [Entry(file.name, nothing, traces)], []


def _curves(folder: Path) -> list[Curve]:
    curves = []
    for stage, name, label in _CURVES:
        path = folder / stage / "metrics.jsonl"
        if path.exists():
            rows = read_jsonl(path, dict[str, float])
            points = [(row["step"], row[name]) for row in rows if name in row]
            if len(points) > 1:
                curves.append(Curve(label, points))
    return curves


def _choose(traces: Sequence[Trace], count: int, rng: random.Random) -> list[Trace]:
    """Traces drawn by chance, solved and unsolved in turn as long as there are both."""
    solved = [trace for trace in traces if trace.solved]
    others = [trace for trace in traces if not trace.solved]
    rng.shuffle(solved)
    rng.shuffle(others)
    half = max(count // 2, count - len(others))
    return (solved[:half] + others)[:count]


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")
