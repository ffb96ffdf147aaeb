"""Results and traces as one HTML page that needs nothing but itself, and the tables as Markdown."""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from redpencil.errors import UsageError
from redpencil.files import atomic_write
from redpencil.report import plots, view
from redpencil.report.drawings import Drawing, drawings
from redpencil.report.entries import Curve, Entry, from_folder, from_folders
from redpencil.report.sections import measured_of, section_plots, sections
from redpencil.types import Trace

__all__ = [
    "Curve",
    "Entry",
    "build",
    "from_folder",
    "from_folders",
    "markdown",
    "write",
    "write_markdown",
]

_HERE = Path(__file__).parent


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
        title: of the page.
        entries: in the order they are to be shown.
        curves: learning curves, each with two points or more.
        gallery: traces shown of each entry, half of them solved where there are as many.
        seed: chooses them.

    Raises:
        MissingDependency: there is something to plot and matplotlib is not installed.
    """
    shown = [
        view.trace_view(trace, entry.label)
        for entry in entries
        for trace in _choose(entry.traces, gallery, random.Random(seed))
    ]
    measured = measured_of(entries)
    script = (_HERE / "script.js").read_text(encoding="utf-8")
    page = (
        _templates()
        .get_template("page.html.j2")
        .render(
            title=title,
            measured=measured,
            sections=sections(entries),
            plots=section_plots(measured),
            labels=list(dict.fromkeys(entry.label for entry in entries)),
            curves=[(curve.label, plots.line(curve, place)) for place, curve in enumerate(curves)],
            traces=shown,
            drawn_from=sum(len(entry.traces) for entry in entries),
            seed=seed,
            style=Markup((_HERE / "style.css").read_text(encoding="utf-8")),
            code_style=view.code_css(),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    return page


def write(path: Path, title: str, entries: Sequence[Entry], curves: Sequence[Curve]) -> None:
    """Build the page and write it, atomically.

    Raises:
        MissingDependency: there is something to plot and matplotlib is not installed.
        UsageError: the file cannot be written.
    """
    page = build(title, entries, curves)
    with atomic_write(path) as file:
        file.write(page.encode("utf-8", "replace"))


def markdown(
    title: str, entries: Sequence[Entry], drawings: Mapping[str, Sequence[Drawing]] | None = None
) -> str:
    """The page's tables of results as Markdown.

    Args:
        drawings: images to show, by the name of their section.

    Raises:
        UsageError: nothing was measured.
    """
    found = sections(entries)
    if not found:
        raise UsageError("no evaluation to tabulate: `redpencil eval ... --out FOLDER` makes one")
    text = (
        _templates()
        .get_template("report.md.j2")
        .render(
            title=title,
            sections=found,
            drawings=drawings or {},
            measured=measured_of(entries),
        )
    )
    return f"{text.rstrip()}\n"


def write_markdown(
    path: Path, title: str, entries: Sequence[Entry], curves: Sequence[Curve] | None = None
) -> None:
    """Write the tables of results as Markdown, atomically.

    Args:
        curves: learning curves; with them, be they none, the page's plots are drawn too, into a
            folder beside the file whose name ends in `.plots`. None draws nothing.

    Raises:
        MissingDependency: there is something to plot and matplotlib is not installed.
        UsageError: nothing was measured, or a file cannot be written.
    """
    folder = path.with_suffix(".plots").name
    drawn = {} if curves is None else drawings(folder, section_plots(measured_of(entries)), curves)
    text = markdown(title, entries, drawn)
    for drawing in itertools.chain(*drawn.values()):
        with atomic_write(path.parent / drawing.file) as file:
            file.write(drawing.svg.encode("utf-8", "replace"))
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "replace"))


def _choose(traces: Sequence[Trace], count: int, rng: random.Random) -> list[Trace]:
    """Traces drawn by chance, half of them solved as long as there are enough of both."""
    solved = [trace for trace in traces if trace.solved]
    others = [trace for trace in traces if not trace.solved]
    rng.shuffle(solved)
    rng.shuffle(others)
    half = max(count // 2, count - len(others))
    return (solved[:half] + others)[:count]


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=lambda name: not (name or "").endswith(".md.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["cell"] = _cell
    return templates


def _cell(text: str) -> str:
    """The text to the letter in a line, or a table's cell, of Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))
