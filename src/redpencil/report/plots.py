"""The page's plots, as SVG that takes its colours from the page."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from redpencil.errors import MissingDependency

if TYPE_CHECKING:
    from redpencil.report import Curve, Entry

_INK = "#010203"
_ACCENT = "#010204"
"""Colours that occur in no plot of their own accord, replaced by the page's variables."""


def bars(entries: Sequence[Entry]) -> Markup:
    """Share solved with its 95% interval, a bar for each entry."""
    figure, axes = _figure(6.4, 0.42 * len(entries) + 0.7)
    results = [entry.results for entry in entries]
    values = [100 * r.pass_at_1 for r in results]
    low = [100 * (r.pass_at_1 - r.ci95[0]) for r in results]
    high = [100 * (r.ci95[1] - r.pass_at_1) for r in results]
    places = range(len(entries))
    axes.barh(places, values, height=0.55, color=_ACCENT)
    axes.errorbar(values, places, xerr=[low, high], fmt="none", ecolor=_INK, capsize=3, lw=1)
    axes.set_yticks(places, [entry.label for entry in entries])
    axes.invert_yaxis()
    axes.set_xlabel("% solved, with 95% interval")
    axes.set_xlim(left=0)
    return _svg(figure, "bars" + repr(values))


def line(curve: Curve) -> Markup:
    """One learning curve."""
    figure, axes = _figure(4.2, 2.2)
    steps, values = zip(*curve.points, strict=True)
    axes.plot(steps, values, color=_ACCENT, lw=1.6)
    axes.set_xlabel("step")
    axes.set_ylim(bottom=min(0, *values))
    return _svg(figure, curve.label)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(
            "the report's plots need matplotlib: pip install 'redpencil[eval]'"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(_INK)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.xaxis.label.set(color=_INK, fontsize=9)
    return figure, axes


def _svg(figure: Any, name: str) -> Markup:
    """The figure as inline SVG: text kept as text, ids its own, nothing that changes by the day."""
    import matplotlib

    salt = hashlib.sha256(name.encode()).hexdigest()[:8]
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="(?!m|p)[^"]*"', "", svg)
    svg = svg.replace(_INK, "currentColor").replace(_ACCENT, "var(--accent)")
    return Markup(svg)
