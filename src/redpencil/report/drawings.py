"""A page's plots as images of their own, for Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from redpencil.report import plots
from redpencil.report.entries import Curve
from redpencil.report.sections import Plots

LEARNING = "learning"


class Drawing(NamedTuple):
    """An image, and what stands beside it."""

    file: str
    """Its path as seen from the Markdown."""
    label: str
    is_key: bool
    """A piece of a line, which says what other plots show by it."""
    svg: str


def drawings(
    folder: str, sections: Mapping[str, Plots], curves: Sequence[Curve]
) -> dict[str, list[Drawing]]:
    """All images, by the name of their section; learning curves are in `LEARNING`.

    Args:
        folder: where they are to lie, beside the Markdown.

    Raises:
        MissingDependency: there is a curve and matplotlib is not installed.
    """
    drawn = dict(sections)
    if curves:
        lines = [(curve.label, plots.line(curve, place)) for place, curve in enumerate(curves)]
        drawn[LEARNING] = Plots(lines, [])
    return {
        name: [
            Drawing(f"{folder}/{name}-{kind}-{place}.svg", label, kind == "key", _alone(svg))
            for kind, images in (("key", section.keys), ("plot", section.figures))
            for place, (label, svg) in enumerate(images)
        ]
        for name, section in drawn.items()
    }


def _alone(svg: str) -> str:
    """An image with the colours that it has from the page."""
    head, _, rest = svg.partition(">")
    return f"{head}><style>{_palette()} svg {{ color: var(--ink); }}</style>{rest}\n"


@cache
def _palette() -> str:
    """The page's colours, by day and by night."""
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    return " ".join(style.partition("* {")[0].split())
