"""What a page is made of, and how a folder of results is read into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from redpencil.compare import names
from redpencil.errors import DataError
from redpencil.files import read_json, read_jsonl
from redpencil.results import RESULTS, Results, read_evaluation
from redpencil.types import Trace

ORDER = ("direct", "base", "sft", "grpo")
"""The order of a run's evaluations, baselines first; others follow by name."""

NAMES = {
    "direct": "direct answer, zero-shot",
    "base": "editing, untrained",
    "sft": "editing, after SFT",
    "grpo": "editing, after SFT + GRPO",
}
"""What the quickstart's evaluations are called."""
_CURVES = (
    ("sft", "loss", "SFT: loss on the model's own tokens"),
    ("grpo", "solved_rate", "GRPO: share of traces solved"),
    ("grpo", "reward", "GRPO: mean reward of a trace"),
)


@dataclass(frozen=True)
class Entry:
    """One evaluation, or one file of traces."""

    label: str
    results: Results | None
    """None where there are traces and nothing was measured, as with demonstrations."""
    traces: Sequence[Trace]


@dataclass(frozen=True)
class Curve:
    """One learning curve: points (x, value)."""

    label: str
    points: Sequence[tuple[float, float]]
    x_label: str = "step"


class _Metrics(msgspec.Struct):
    """What is read of a line of `metrics.jsonl`, which holds more; its NaN is written as null."""

    step: float
    loss: float | None = None
    reward: float | None = None
    solved_rate: float | None = None


def from_folders(folders: Sequence[Path]) -> tuple[list[Entry], list[Curve]]:
    """What several paths hold, as `from_folder` reads each, under names that tell them apart.

    Raises:
        DataError: there is nothing to report, or a file is not what it should be (line named).
    """
    if len(folders) == 1:
        return from_folder(folders[0])
    entries: list[Entry] = []
    curves: list[Curve] = []
    for name, folder in zip(names(folders), folders, strict=True):
        found, learned = from_folder(folder)
        run = not folder.is_file() and not (folder / RESULTS).exists()
        entries += [replace(one, label=f"{name}: {one.label}" if run else name) for one in found]
        curves += [replace(curve, label=f"{name}: {curve.label}") for curve in learned]
    return entries, curves


def from_folder(folder: Path, order: Sequence[str] = ORDER) -> tuple[list[Entry], list[Curve]]:
    """What a path holds: a run with `eval/*`, one evaluation's folder, or a file.

    A file ending in `.json` is one evaluation's results without its traces, any other is of traces.

    Args:
        order: names below `eval/` that come first, in this order; others follow by name.

    Raises:
        DataError: there is nothing to report, or a file is not what it should be (line named).
    """
    if folder.is_file() and folder.suffix == ".json":
        return [Entry(folder.stem, read_json(folder, Results), ())], []
    if folder.is_file():
        return [_traces_alone(folder)], []
    if (folder / RESULTS).exists():
        return [_entry(folder)], []
    found = [path.parent for path in folder.glob(f"eval/*/{RESULTS}")]
    if not found:
        raise DataError(
            f"nothing to report in {folder}: neither {RESULTS} nor eval/*/{RESULTS}; "
            "`redpencil eval ... --out FOLDER` writes them"
        )
    rank = {name: place for place, name in enumerate(order)}
    found.sort(key=lambda path: (rank.get(path.name, len(rank)), path.name))
    return [_entry(path) for path in found], _curves(folder)


def _entry(folder: Path) -> Entry:
    return Entry(NAMES.get(folder.name, folder.resolve().name), *read_evaluation(folder))


def _traces_alone(file: Path) -> Entry:
    traces = read_jsonl(file, Trace)
    if not traces:
        raise DataError(f"no traces in {file}; `redpencil demos ... --out FILE` writes some")
    return Entry(file.name, None, traces)


def _curves(folder: Path) -> list[Curve]:
    curves = []
    for stage, name, label in _CURVES:
        path = folder / stage / "metrics.jsonl"
        if path.exists():
            rows = read_jsonl(path, _Metrics)
            pairs = [(row.step, getattr(row, name)) for row in rows]
            points = [(step, value) for step, value in pairs if value is not None]
            if len(points) > 1:
                curves.append(Curve(label, points))
    return curves
