"""Markdown tables of runs: one unit per column, intervals and marks beside the values."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from profiling import metrics
from profiling.metrics import COUNT, PER_SECOND, RATIO, SHARE, SUMMARY_COLUMNS, Metric
from profiling.report.read.keys import list_differing, show_value
from profiling.report.read.runs import Run
from profiling.report.read.sweeps import name_key
from profiling.report.say import escape
from profiling.report.say.marks import mark_estimate, mark_noisy_value, mark_weights
from profiling.report.say.units import (
    NOTHING,
    digits,
    percent,
    say_reached,
    scale_of,
    times,
)
from profiling.statistics.intervals import Interval

# Counts have no decimals.
_COUNTED = (COUNT, "px")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table: its head, and a cell for each row."""

    head: str
    cells: list[str]
    is_text: bool


def table(columns: Sequence[Column]) -> list[str]:
    """The lines of a table; a column without any value is left out."""
    kept = [column for column in columns if any(cell != NOTHING for cell in column.cells)]
    if not kept:
        return []
    lines = [
        _line(column.head for column in kept),
        _line(":--" if column.is_text else "--:" for column in kept),
    ]
    lines.extend(_line(cells) for cells in zip(*(column.cells for column in kept), strict=True))
    return lines


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def run_column(runs: Sequence[Run]) -> Column:
    """The short name of each run, with the mark of its weights."""
    cells = [f"`{run.short}`{mark_weights(run)}" for run in runs]
    return Column(head="run", cells=cells, is_text=True)


def text_column(runs: Sequence[Run], column: str) -> Column:
    cells = [NOTHING if run[column] is None else escape.markdown(run[column]) for run in runs]
    return Column(head=metrics.find(column).title, cells=cells, is_text=True)


def setting_columns(runs: Sequence[Run], *, without: Sequence[str] = ()) -> list[Column]:
    """A column for each configuration key in which these runs differ."""
    differing = list_differing([run.settings for run in runs])
    return [setting_column(runs, key) for key in differing if key not in without]


def setting_column(runs: Sequence[Run], key: str) -> Column:
    unit = metrics.find(key).unit if key in SUMMARY_COLUMNS else COUNT
    return Column(
        head=_head(escape.markdown(name_key(key)), "" if unit == COUNT else unit),
        cells=[_setting(key, run) for run in runs],
        is_text=any(isinstance(run[key], str) for run in runs),
    )


def _setting(key: str, run: Run) -> str:
    value = run[key]
    if value is None:
        return "as it is" if key in ("prompt_len", "img_size") else NOTHING
    mark = mark_weights(run) if key == "model" else ""
    return escape.markdown(show_value(value)) + mark


def _head(title: str, unit: str) -> str:
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
) -> Column:
    metric = metrics.find(name)
    factor, unit = _shared_scale(metric, values)
    cells = [
        NOTHING if value is None else _cell(metric, run, value, own, factor)
        for run, value, own in zip(runs, values, bounds, strict=True)
    ]
    return Column(head=_head(metric.title, unit), cells=cells, is_text=False)


def _shared_scale(metric: Metric, values: Sequence[float | None]) -> tuple[float, str]:
    present = [abs(value) for value in values if value]
    # The title of a rate says its unit.
    if not present or metric.unit in (COUNT, PER_SECOND):
        return 1.0, ""
    return scale_of(statistics.median_low(present), metric.unit)


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
