"""The page's plots, as SVG that takes its colours and fonts from the page."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from markupsafe import Markup, escape

from redpencil.errors import MissingDependency
from redpencil.report.entries import Curve
from redpencil.results import Results

_INK, _ACCENT, _RULE = "#010203", "#010204", "#010205"
_COLOURS = {_INK: "currentColor", _ACCENT: "var(--accent)", _RULE: "var(--rule)"}
"""Colours that occur in no plot of their own accord, and what the page knows them by."""


def bars(measured: Sequence[tuple[str, Results]]) -> Markup:
    """Share solved with its 95% interval: a bar for each label.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    with _plot(5.4, 0.52 * len(measured) + 0.45) as (figure, axes):
        axes.grid(axis="x", color=_RULE, lw=0.8)
        for place, (label, results) in enumerate(measured):
            value, low, high = (100 * n for n in (results.pass_at_1, *results.ci95))
            axes.barh(place, value, height=0.36, color=_ACCENT)
            axes.plot([low, high], [place, place], color=_INK, lw=1.3, marker="|", ms=7)
            axes.annotate(
                label, (0, place - 0.2), (3, 3), textcoords="offset points", color=_INK, fontsize=9
            )
            axes.annotate(
                f"{value:.1f}%",
                (max(value, high), place),
                (8, 0),
                textcoords="offset points",
                va="center",
                color=_INK,
                fontsize=9,
                weight="bold",
            )
        highest = max(100 * max(r.pass_at_1, r.ci95[1]) for _, r in measured)
        axes.set_xlim(0, max(5, 1.14 * highest))
        axes.set_ylim(len(measured) - 0.6, -0.75)
        axes.set_yticks([])
        axes.spines["bottom"].set_visible(False)
        axes.xaxis.set_major_formatter("{x:g}%")
        alt = "Share solved: " + "; ".join(f"{name} {r.pass_at_1:.1%}" for name, r in measured)
        return _svg(figure, "bars", alt)


def line(curve: Curve, place: int) -> Markup:
    """One learning curve; `place` tells it from the page's other curves.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    xs, values = zip(*curve.points, strict=True)
    with _plot(4.0, 2.1) as (figure, axes):
        axes.grid(axis="y", color=_RULE, lw=0.8)
        axes.plot(xs, values, color=_ACCENT, lw=1.5, solid_joinstyle="round")
        axes.set_xlabel(curve.x_label)
        axes.set_ylim(bottom=min(0, *values))
        axes.margins(x=0.01)
        axes.spines["left"].set_visible(False)
        alt = f"{curve.label}, from {values[0]:.3g} to {values[-1]:.3g}"
        return _svg(figure, f"curve {place}", alt)


@contextmanager
def _plot(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A bare figure of so many inches, and its axes; labels in it are taken to the letter."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(
            "the report's plots need matplotlib: pip install 'redpencil[eval]'"
        ) from error
    with matplotlib.rc_context({"text.parse_math": False, "svg.fonttype": "none"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("bottom", "left"):
            axes.spines[side].set_color(_INK)
        axes.tick_params(colors=_INK, labelsize=8.5, length=0)
        axes.xaxis.label.set(color=_INK, fontsize=8.5)
        yield figure, axes


def _svg(figure: Any, name: str, alt: str) -> Markup:
    """The figure as inline SVG: text kept as text, ids its own, nothing that changes by the day."""
    import matplotlib

    salt = hashlib.sha256(name.encode()).hexdigest()[:8]
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", svg)
    for colour, replacement in _COLOURS.items():
        svg = svg.replace(colour, replacement)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1))
