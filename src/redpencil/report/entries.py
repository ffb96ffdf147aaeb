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
from redpencil.runs import RUN
from redpencil.train import METRICS
from redpencil.types import Trace

NAMES = {
    "direct": "direct, zero-shot",
    "base": "editing, untrained",
    "sft": "editing, SFT",
    "grpo": "editing, SFT + GRPO",
}
"""What the quickstart's evaluations are called, in their order."""
_TRAININGS = {"sft": "SFT", "grpo": "GRPO"}
"""What the quickstart's trainings are called."""
_FINE_TUNING = {"loss": "loss on the model's own tokens"}
_REINFORCING = {"solved_rate": "share of traces solved", "reward": "mean reward of a trace"}


@dataclass(frozen=True)
class Entry:
    """One evaluation, or one file of traces."""

    label: str
    results: Results | None
    """None where there are traces and nothing was measured, as with demonstrations."""
    traces: Sequence[Trace]


@dataclass(frozen=True)
class Curve:
    """One learning curve: points (step, value)."""

    label: str
    points: Sequence[tuple[float, float]]


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
        if (folder / METRICS).exists():
            learned = _curves(folder, name)
        else:
            learned = [replace(curve, label=f"{name}: {curve.label}") for curve in learned]
        curves += learned
    return entries, curves


def from_folder(folder: Path) -> tuple[list[Entry], list[Curve]]:
    """What a path holds: an evaluation, a training, a run with some of both below it, or a file.

    A file ending in `.json` is one evaluation's results without its traces, any other is of traces.

    Raises:
        DataError: there is nothing to report, or a file is not what it should be (line named).
    """
    if folder.is_file() and folder.suffix == ".json":
        return [Entry(folder.stem, read_json(folder, Results), ())], []
    if folder.is_file():
        return [_traces_alone(folder)], []
    if (folder / RESULTS).exists():
        return [Entry(folder.resolve().name, *read_evaluation(folder))], []
    evaluations, trainings = (_below(folder, file) for file in (RESULTS, METRICS))
    if not evaluations and not trainings:
        raise DataError(
            f"nothing to report in {folder}: no {RESULTS} of an evaluation and no {METRICS} of a "
            "training, nor below it; `redpencil eval ... --out FOLDER` writes the one, `redpencil "
            "sft` and `rl` the other"
        )
    # Elsewhere a folder called `direct` may hold anything.
    called, stages = (NAMES, _TRAININGS) if (folder / RUN).exists() else ({}, {})
    return (
        [Entry(called.get(name, name), *read_evaluation(path)) for name, path in evaluations],
        [curve for name, path in trainings for curve in _curves(path, stages.get(name, name))],
    )


def _below(folder: Path, file: str) -> list[tuple[str, Path]]:
    """The folders at any depth that hold such a file, with names that tell them apart."""
    rank = {name: place for place, name in enumerate(NAMES)}
    found = [path.parent for path in folder.absolute().rglob(file)]
    found.sort(key=lambda path: (rank.get(path.name, len(rank)), path.name, path))
    return list(zip(names(found), found, strict=True))


def _traces_alone(file: Path) -> Entry:
    traces = read_jsonl(file, Trace)
    if not traces:
        raise DataError(f"no traces in {file}; `redpencil demos ... --out FILE` writes some")
    return Entry(file.name, None, traces)


def _curves(training: Path, name: str) -> list[Curve]:
    """A training's curves, of which a loss says little where there are rewards."""
    rows = read_jsonl(training / METRICS, _Metrics)
    rewarded = any(row.reward is not None for row in rows)
    curves = []
    for field, label in (_REINFORCING if rewarded else _FINE_TUNING).items():
        pairs = [(row.step, getattr(row, field)) for row in rows]
        points = [(step, value) for step, value in pairs if value is not None]
        if len(points) > 1:
            curves.append(Curve(f"{name}: {label}", points))
    return curves
