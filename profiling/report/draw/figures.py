"""Draw figures as SVG and PNG, with the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter
from matplotlib.transforms import ScaledTranslation, Transform

from profiling import metrics
from profiling.report.draw.palette import (
    COLOURS,
    HATCHES,
    MODEL_COLOURS,
    MODEL_MARKERS,
)
from profiling.report.say.units import quantity, scale_of

PAPER, INK, GRID = "#fdfdfd", "#24292e", "#d8dade"
# A logarithmic axis over a smaller range has too few ticks.
WIDE_RANGE = 20
# Over fewer sizes a line would show a course that nobody measured.
LEAST_SIZES = 3
MOST_TICKS = 8
# The distance of groups at one size, in points.
_BESIDE = 4.0
# Inches to the right of the axes, where the legend stands.
_LEGEND = 1.65
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "profiling.report",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "hatch.linewidth": 0.4,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
}
# In a dark colour scheme paper and ink change; the colours of the phases stay.
_DARK = (
    "<style>@media (prefers-color-scheme: dark){"
    f'[style*="fill: {PAPER}"]{{fill:#0d1117!important}}'
    f'[style*="fill: {INK}"],text{{fill:#e6edf3!important}}'
    f'[style*="stroke: {INK}"]{{stroke:#e6edf3!important}}'
    f'[style*="stroke: {PAPER}"]{{stroke:#0d1117!important}}'
    f'[style*="stroke: {GRID}"]{{stroke:#30363d!important}}'
    "}</style>"
)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One stacked bar: its parts from the bottom up, and the interval of the sum."""

    label: str
    parts: Mapping[str, float]
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One run in a plane of two metrics."""

    group: str
    x: float
    y: float
    on_front: bool


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One phase under a roofline: FLOP per byte, and FLOP per second."""

    phase: str
    x: float
    y: float


@contextmanager
def _drawing() -> Iterator[None]:
    with matplotlib.rc_context(_STYLE):
        yield


def draw_stacks(
    stem: Path, bars: Sequence[Bar], *, title: str, x_name: str, y_name: str, unit: str
) -> None:
    """Stacked phases side by side, the interval of the sum as a whisker."""
    with _drawing():
        figure, axes = _canvas(title, wide=len(bars))
        tallest = max((max(_top(bar), bar.high or 0.0) for bar in bars), default=1.0)
        factor, name = scale_of(tallest, unit)
        for position, bar in enumerate(bars):
            _stack(axes, position, bar, factor)
        axes.set_xticks(range(len(bars)), [bar.label for bar in bars])
        if sum(len(bar.label) for bar in bars) > 70:
            axes.tick_params(axis="x", labelrotation=25)
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")
            figure.subplots_adjust(bottom=0.3)
        axes.set_xlabel(x_name)
        axes.set_ylabel(f"{y_name} ({name})")
        axes.set_ylim(0, 1.06 * tallest / factor or 1)
        _phase_legend(axes, bars)
        _save(figure, stem)


def _top(bar: Bar) -> float:
    return sum(bar.parts.values())


def _stack(axes: Axes, position: int, bar: Bar, factor: float) -> None:
    bottom = 0.0
    for phase, value in bar.parts.items():
        axes.bar(
            position,
            value / factor,
            bottom=bottom / factor,
            width=0.62,
            color=COLOURS[phase],
            hatch=HATCHES[phase],
            edgecolor=PAPER,
            linewidth=0.5,
        )
        bottom += value
    if bar.low is not None and bar.high is not None:
        axes.vlines(position, bar.low / factor, bar.high / factor, colors=INK, linewidth=1.6)


def _phase_legend(axes: Axes, bars: Sequence[Bar]) -> None:
    shown = [phase for phase in COLOURS if any(bar.parts.get(phase) for bar in bars)]
    handles = [
        Patch(facecolor=COLOURS[p], hatch=HATCHES[p], edgecolor=PAPER, label=p) for p in shown
    ]
    # From the top down, like the bars.
    axes.legend(handles=handles[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def draw_plane(
    stem: Path, dots: Sequence[Dot], *, title: str, x_name: str, x_unit: str, y_name: str
) -> None:
    """Runs in a plane, with a colour and a shape per group; the front is filled and joined."""
    with _drawing():
        figure, axes = _canvas(title, wide=6)
        for position, group in enumerate(sorted({dot.group for dot in dots})):
            own = [dot for dot in dots if dot.group == group]
            _scatter(axes, own, group, position)
        front = sorted((dot.x, dot.y) for dot in dots if dot.on_front)
        axes.plot(*zip(*front, strict=True), color=INK, linewidth=0.8, zorder=1)
        sizes = [dot.x for dot in dots if dot.x > 0]
        if sizes and max(sizes) > WIDE_RANGE * min(sizes):
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        highest = max((dot.y for dot in dots), default=1.0)
        if all(dot.y >= 0 for dot in dots):
            axes.set_ylim(-0.03 * (highest or 1), 1.06 * highest or 1)
        axes.xaxis.set_major_formatter(lambda value, _: quantity(value, x_unit))
        axes.set_xlabel(x_name)
        axes.set_ylabel(y_name)
        axes.grid(color=GRID, linewidth=0.6, zorder=0)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        _save(figure, stem)


def _scatter(axes: Axes, dots: Sequence[Dot], group: str, style: int) -> None:
    turn, place = divmod(style, len(MODEL_COLOURS))
    # Where colours repeat, shapes are shifted, so that each group has its own pair.
    colour, marker = MODEL_COLOURS[place], MODEL_MARKERS[(place + turn) % len(MODEL_MARKERS)]
    for on_front, face in ((False, "none"), (True, colour)):
        chosen = [dot for dot in dots if dot.on_front is on_front]
        axes.scatter(
            [dot.x for dot in chosen],
            [dot.y for dot in chosen],
            s=34,
            marker=marker,
            facecolors=face,
            edgecolors=colour,
            zorder=3,
        )
    axes.scatter([], [], s=34, marker=marker, color=colour, label=group)


def draw_lines(
    stem: Path,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_name: str,
    y_name: str,
    unit: str,
    bounds: Mapping[str, Sequence[tuple[float, float, float]]] | None = None,
) -> None:
    """One line per group over a growing size, both axes from zero.

    Fewer sizes than `LEAST_SIZES` are categories, whose points no line joins. `bounds` are the
    known intervals as (x, low, high), drawn as whiskers; groups stand side by side, so that one
    whisker does not cover another.
    """
    known = bounds or {}
    sizes = sorted({x for points in lines.values() for x, _ in points})
    are_categories = len(sizes) < LEAST_SIZES
    places = {x: float(i) if are_categories else x for i, x in enumerate(sizes)}
    with _drawing():
        figure, axes = _canvas(title, wide=6, names=lines)
        tallest = max(y for points in lines.values() for _, y in points)
        factor, name = scale_of(tallest, unit)
        for position, (group, points) in enumerate(sorted(lines.items())):
            style = position % len(MODEL_COLOURS)
            aside = _aside(axes, position, len(lines))
            axes.plot(
                [places[x] for x, _ in points],
                [y / factor for _, y in points],
                color=MODEL_COLOURS[style],
                marker=MODEL_MARKERS[style],
                linestyle="none" if are_categories else "-",
                label=group,
                transform=aside,
            )
            for x, low, high in known.get(group, ()):
                axes.vlines(
                    places[x],
                    low / factor,
                    high / factor,
                    colors=MODEL_COLOURS[style],
                    linewidth=1.2,
                    transform=aside,
                )
        _mark_sizes(axes, sizes, are_categories=are_categories)
        highs = (high for intervals in known.values() for _, _, high in intervals)
        highest = max([tallest, *highs]) / factor
        axes.set_ylim(0, 1.06 * highest or 1)
        axes.set_xlabel(x_name)
        axes.set_ylabel(f"{y_name} ({name})" if name else y_name)
        axes.grid(color=GRID, linewidth=0.6)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        _save(figure, stem)


def _aside(axes: Axes, position: int, groups: int) -> Transform:
    """The data's place, shifted by some points for each group."""
    shift = _BESIDE * (position - (groups - 1) / 2) / 72
    return axes.transData + ScaledTranslation(shift, 0, axes.figure.dpi_scale_trans)


def _mark_sizes(axes: Axes, sizes: Sequence[float], *, are_categories: bool) -> None:
    """Ticks at the values themselves, where these are few."""
    if are_categories:
        axes.set_xlim(-0.5, len(sizes) - 0.5)
        axes.set_xticks(range(len(sizes)), [f"{size:g}" for size in sizes])
        return
    axes.set_xlim(0, 1.05 * sizes[-1])
    if len(sizes) <= MOST_TICKS and _are_apart(sizes):
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])


def _are_apart(sizes: Sequence[float]) -> bool:
    """Whether the labels of these ticks do not touch."""
    return all(b - a > 0.06 * sizes[-1] for a, b in pairwise(sizes))


def draw_roofline(
    stem: Path,
    marks: Sequence[Mark],
    *,
    title: str,
    peak_flops_per_s: float,
    peak_bytes_per_s: float,
) -> None:
    """The rate that each phase achieves, below the limits of memory and arithmetic."""
    with _drawing():
        figure, axes = _canvas(title, wide=6)
        figure.subplots_adjust(left=0.18)
        ridge = peak_flops_per_s / peak_bytes_per_s
        left = min(ridge, *(mark.x for mark in marks)) / 4
        right = max(ridge, *(mark.x for mark in marks)) * 4
        roof = [left * peak_bytes_per_s, peak_flops_per_s, peak_flops_per_s]
        axes.plot([left, ridge, right], roof, color=INK, linewidth=1.2)
        for mark, shape in zip(marks, MODEL_MARKERS, strict=False):
            axes.scatter(
                mark.x, mark.y, s=60, marker=shape, color=COLOURS[mark.phase], label=mark.phase
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        work = metrics.find("flops").unit
        axes.yaxis.set_major_formatter(lambda value, _: f"{quantity(value, work)}/s")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("FLOP per byte moved")
        axes.grid(color=GRID, linewidth=0.6)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        _save(figure, stem)


def _canvas(title: str, *, wide: int, names: Iterable[str] = ()) -> tuple[Figure, Axes]:
    """A figure with room on its right for a legend, of long names too."""
    longest = max(map(len, names), default=0)
    beside = max(_LEGEND, 0.55 + 0.09 * longest)
    width = min(12.0, 5.2 + 0.45 * wide) + beside - _LEGEND
    shown = _wrap(title, width)
    above = 0.2 + 0.2 * len(shown)
    height = 3.5 + above
    figure = Figure(figsize=(width, height))
    # Space for labels and legend; the automatic layout would draw everything twice.
    figure.subplots_adjust(
        left=0.95 / width,
        right=1 - beside / width,
        bottom=0.62 / height,
        top=1 - above / height,
    )
    axes = figure.add_subplot()
    axes.set_title("\n".join(shown), fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _wrap(title: str, width: float) -> list[str]:
    """The lines of a title; what is longer than the figure is wide goes on below."""
    across = int(11 * (width - 1))
    return [line for part in title.split("\n") for line in wrap(part, across) or [""]]


def _save(figure: Figure, stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(f"{stem}.png", dpi=110, metadata={"Software": None})
    text = StringIO()
    FigureCanvasSVG(figure)
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing)
    drawn = text.getvalue().replace("</defs>", f"</defs>{_DARK}", 1)
    Path(f"{stem}.svg").write_text(drawn, encoding="utf-8", newline="\n")
