"""Columns of runs: one unit per column, intervals and marks beside the values."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from profiling import metrics
from profiling.metrics import COUNT, PER_SECOND, PHASES, RATIO, SHARE, Metric
from profiling.report.read.readings import read_phase_repeats
from profiling.report.read.runs import Run, without_cache
from profiling.report.say.limits import Place
from profiling.report.say.marks import mark_estimate, mark_noisy_value
from profiling.report.say.units import (
    NOTHING,
    digits,
    percent,
    say_reached,
    scale_of,
    times,
)
from profiling.statistics.intervals import Interval
from profiling.statistics.summaries import bound_level

# Counts have no decimals.
_COUNTED = (COUNT, "px")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table: its head, and a cell for each row."""

    head: str
    cells: list[str]
    is_text: bool


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What the values of a column are divided by, and the unit that they then have."""

    factor: float
    unit: str


def head_of(title: str, unit: str) -> str:
    return f"{title} ({unit})" if unit else title


def number_columns(runs: Sequence[Run], names: Sequence[str]) -> list[Column]:
    return [number_column(runs, name) for name in names]


def number_column(runs: Sequence[Run], name: str) -> Column:
    """The values of a metric with their intervals, all in the unit that suits most of them."""
    return value_column(
        runs,
        name,
        values=[run.number(name) for run in runs],
        bounds=[run.interval(name) for run in runs],
    )


def value_column(
    runs: Sequence[Run],
    name: str,
    *,
    values: Sequence[float | None],
    bounds: Sequence[Interval | None],
    scale: Scale | None = None,
) -> Column:
    """The same of other values; without a scale in the unit that suits most of them."""
    metric = metrics.find(name)
    scale = scale or find_scale(name, values)
    cells = [
        NOTHING if value is None else _cell(metric, run, value, own, scale.factor)
        for run, value, own in zip(runs, values, bounds, strict=True)
    ]
    return Column(head=head_of(metric.title, scale.unit), cells=cells, is_text=False)


def find_scale(name: str, values: Sequence[float | None]) -> Scale:
    """The unit that suits most values of a metric."""
    unit = metrics.find(name).unit
    # The title of a rate says its unit.
    return Scale(factor=1.0, unit="") if unit == PER_SECOND else share_scale(unit, values)


def share_scale(unit: str, values: Sequence[float | None]) -> Scale:
    """The scaled unit that suits most of these values."""
    present = [abs(value) for value in values if value]
    if not present or unit == COUNT:
        return Scale(factor=1.0, unit="")
    factor, name = scale_of(statistics.median_low(present), unit)
    return Scale(factor=factor, unit=name)


def quantity_column(
    head: str, values: Sequence[float | None], unit: str, *, beside: Sequence[float | None] = ()
) -> Column:
    """Plain quantities in one unit, which the head names and the column beside it has too."""
    scale = share_scale(unit, beside or values)
    cells = [NOTHING if value is None else digits(value / scale.factor) for value in values]
    return Column(head=head_of(head, scale.unit), cells=cells, is_text=False)


def _cell(metric: Metric, run: Run, value: float, bounds: Interval | None, factor: float) -> str:
    text = _number(metric, value / factor)
    if bounds is not None:
        ends = [_number(metric, end / factor) for end in (bounds.low, bounds.high)]
        text += f" [{ends[0]}, {ends[1]}]{say_reached(bounds)}"
    return mark_estimate(run, metric.name) + text + mark_noisy_value(run, metric.name)


def _number(metric: Metric, value: float) -> str:
    if metric.shown_as == SHARE:
        return percent(value)
    if metric.shown_as == RATIO:
        return times(value)
    if metric.unit in _COUNTED and value == int(value):
        return f"{value:.0f}"
    return digits(value)


# Phases


def phase_columns(runs: Sequence[Run]) -> list[Column]:
    """The median of each phase with its interval."""
    bounds = bound_phases(runs)
    return [
        value_column(
            runs,
            f"{phase}_s",
            values=[run.number(f"{phase}_s") for run in runs],
            bounds=[own.get(phase) for own in bounds],
        )
        for phase in PHASES
    ]


def bound_phases(runs: Sequence[Run]) -> list[dict[str, Interval | None]]:
    """The intervals of the phases of each run: of its raw repeats, or of its rounds."""
    return [_bound_phases(run) for run in runs]


def _bound_phases(run: Run) -> dict[str, Interval | None]:
    if run.rounds:
        return {phase: run.interval(f"{phase}_s") for phase in PHASES}
    repeats = read_phase_repeats(without_cache(run.record))
    return {phase: bound_level(values) for phase, values in repeats.items()}


# Limits of the machine


def place_columns(places: Sequence[Place]) -> list[Column]:
    """How far each phase is from what the machine allows."""
    time, work, moved = (metrics.find(name).unit for name in ("latency_s", "flops", "model_bytes"))
    texts = {
        "phase": [place.phase for place in places],
        "bound by": [place.bound_by for place in places],
    }
    seconds = [place.seconds for place in places]
    shares = [percent(place.least_s / place.seconds) for place in places]
    intensities = [f"{place.intensity:.3g}" for place in places]
    return [
        *(Column(head=head, cells=cells, is_text=True) for head, cells in texts.items()),
        quantity_column("time", seconds, time),
        quantity_column("least possible", [one.least_s for one in places], time, beside=seconds),
        Column(head="of what is possible", cells=shares, is_text=False),
        quantity_column("work", [place.flops for place in places], work),
        quantity_column("moved", [place.moved_bytes for place in places], moved),
        Column(head="FLOP per byte", cells=intensities, is_text=False),
    ]
