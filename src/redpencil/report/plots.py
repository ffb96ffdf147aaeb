"""The page's plots, as SVG that takes its colours and fonts from the page."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from markupsafe import Markup, escape

from redpencil.compare import Measured
from redpencil.errors import MissingDependency
from redpencil.report.entries import Curve
from redpencil.results import Score

_INK, _ACCENT, _RULE = "#010203", "#010204", "#010205"
_SERIES = ("#010206", "#010207", "#010208", "#010209", "#01020a", "#01020b")
_COLOURS = {_INK: "currentColor", _ACCENT: "var(--accent)", _RULE: "var(--rule)"}
_COLOURS |= {colour: f"var(--series-{place})" for place, colour in enumerate(_SERIES)}
"""Colours that occur in no plot of their own accord, and what the page knows them by."""
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_MARKERS = ("o", "s", "^", "D", "v")
_MOST_GROUPS = 10


def bars(measured: Sequence[Measured]) -> Markup:
    """Share solved with its 95% interval: a bar for each label.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    with _plot(5.4, 0.52 * len(measured) + 0.45) as (figure, axes):
        axes.grid(axis="x", color=_RULE, lw=0.8)
        for place, one in enumerate(measured):
            value, low, high = _percents(one.results.pass_at_1, *one.results.ci95)
            axes.barh(place, value, height=0.36, color=_ACCENT)
            axes.plot([low, high], [place, place], color=_INK, lw=1.3, marker="|", ms=7)
            axes.annotate(
                one.label,
                (0, place - 0.2),
                (3, 3),
                textcoords="offset points",
                color=_INK,
                fontsize=9,
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
        highest = max(100 * max(one.results.pass_at_1, one.results.ci95[1]) for one in measured)
        axes.set_xlim(0, max(5, 1.14 * highest))
        axes.set_ylim(len(measured) - 0.6, -0.75)
        axes.set_yticks([])
        axes.spines["bottom"].set_visible(False)
        axes.xaxis.set_major_formatter("{x:g}%")
        shares = (f"{one.label} {one.results.pass_at_1:.1%}" for one in measured)
        alt = f"Share solved: {'; '.join(shares)}"
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
        axes.set_xlabel("step")
        axes.set_ylim(bottom=min(0, *values))
        axes.margins(x=0.01)
        axes.spines["left"].set_visible(False)
        alt = f"{curve.label}, from {values[0]:.3g} to {values[-1]:.3g}"
        return _svg(figure, f"curve {place}", alt)


def shares(
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    x_label: str,
    *,
    doubling: bool = False,
) -> Markup:
    """Shares 0 to 1 over what was spent, a line for each label.

    Args:
        series: a label, and its points (spent, share); no points where they are not known.
        doubling: the axis is logarithmic.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    with _plot(4.4, 2.6) as (figure, axes):
        axes.grid(axis="y", color=_RULE, lw=0.8)
        for place, (_, points) in enumerate(series):
            xs, values = [x for x, _ in points], [value for _, value in points]
            axes.plot(xs, _percents(*values), clip_on=False, **_style(place))
        ticks = sorted({x for _, points in series for x, _ in points})
        if doubling:
            axes.set_xscale("log", base=2)
            axes.minorticks_off()
        axes.set_xticks(ticks if len(ticks) < 12 else ticks[:: len(ticks) // 6])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(x_label)
        highest = max(100 * value for _, points in series for _, value in points)
        axes.set_ylim(0, max(5, 1.08 * highest))
        axes.yaxis.set_major_formatter("{x:g}%")
        axes.spines["left"].set_visible(False)
        ends = (f"{label} up to {points[-1][1]:.1%}" for label, points in series if points)
        return _svg(figure, f"shares {x_label}", f"Share solved by {x_label}: {'; '.join(ends)}")


def groups(series: Sequence[tuple[str, Mapping[str, Score]]], name: str) -> Markup:
    """Share solved with its 95% interval in each of the first groups, a mark for each label.

    Args:
        name: tells the plot from the page's others.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    kinds = list(dict.fromkeys(kind for _, scores in series for kind in scores))[:_MOST_GROUPS]
    with _plot(5.4, len(kinds) * (0.17 * len(series) + 0.2) + 0.4) as (figure, axes):
        axes.grid(axis="x", color=_RULE, lw=0.8)
        for place, (_, scores) in enumerate(series):
            style = _style(place) | {"linestyle": "-"}
            shift = (place - (len(series) - 1) / 2) * 0.7 / len(series)
            for row, kind in enumerate(kinds):
                if kind in scores:
                    score = scores[kind]
                    value, low, high = _percents(score.pass_at_1, *score.ci95)
                    axes.plot([low, high], [row + shift] * 2, **style | {"marker": "|", "ms": 6})
                    axes.plot([value], [row + shift], clip_on=False, **style | {"ms": 5})
        axes.set_yticks(range(len(kinds)), kinds)
        axes.set_ylim(len(kinds) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter("{x:g}%")
        axes.spines["bottom"].set_visible(False)
        return _svg(figure, name, f"Share solved, {name}: {', '.join(kinds)}")


def key(place: int, name: str) -> Markup:
    """A piece of the line of one label, to stand beside it; `name` is that of its plot.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    with _plot(0.42, 0.14, bare=True) as (figure, axes):
        axes.plot([0, 1, 2], [0, 0, 0], clip_on=False, markevery=[1], **_style(place))
        return _svg(figure, f"key {name} {place}", "")


def _style(place: int) -> dict[str, Any]:
    """How the line of one label is told from others, without colours too."""
    return {
        "color": _SERIES[place % len(_SERIES)],
        "linestyle": _DASHES[place % len(_DASHES)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "lw": 1.5,
        "ms": 4,
    }


def _percents(*shares: float) -> list[float]:
    return [100 * share for share in shares]


@contextmanager
def _plot(width: float, height: float, *, bare: bool = False) -> Iterator[tuple[Any, Any]]:
    """A figure of so many inches, and its axes; labels in it are taken to the letter.

    Args:
        bare: the axes are not shown, and fill the figure.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(
            "the report's plots need matplotlib: pip install 'redpencil[eval]'"
        ) from error
    with matplotlib.rc_context({"text.parse_math": False, "svg.fonttype": "none"}):
        figure = Figure(figsize=(width, height), layout=None if bare else "constrained")
        axes = figure.add_axes((0, 0, 1, 1)) if bare else figure.add_subplot()
        if bare:
            axes.set_axis_off()
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
