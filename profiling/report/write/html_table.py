"""The table of runs of the page: what each column is called, and the text of each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from profiling import metrics
from profiling.metrics import (
    AT_READING,
    COUNT,
    FLAG_COLUMNS,
    OVERVIEW,
    PHASES,
    SUMMARY_COLUMNS,
    TEXT_COLUMNS,
    Metric,
)
from profiling.report.draw.palette import COLOURS, MODEL_COLOURS
from profiling.report.read.keys import list_differing, list_keys, root_of, show_value
from profiling.report.read.runs import Run
from profiling.report.read.sweeps import MACHINE, name_key, name_machine
from profiling.report.say import escape
from profiling.report.say.marks import mark_run
from profiling.report.say.units import NOTHING
from profiling.report.write.columns import (
    Column,
    bound_phases,
    find_scale,
    head_of,
    number_column,
    value_column,
)
from profiling.statistics.intervals import Interval

SHAPES = ("circle", "rect", "triangle", "rectRot", "star", "crossRot", "cross")
DEFAULT = "as it is"
# Every run has its name, and the ends of an interval stand beside their value.
_ELSEWHERE = frozenset(
    {"fingerprint"} | {end for name in SUMMARY_COLUMNS for end in metrics.find(name).bounds or ()}
)


def tabulate(runs: Sequence[Run]) -> dict[str, Any]:
    """Every column with its cells; `keys` and `main` are the names of those that come first."""
    keys = _list_keys(runs)
    main = [name for name in metrics.list_shown(OVERVIEW) if name in SUMMARY_COLUMNS]
    phases = [f"{phase}_s" for phase in PHASES]
    first = [*keys, "status", *main, *phases]
    names = list(dict.fromkeys([*first, *SUMMARY_COLUMNS]))
    bounds = bound_phases(runs)
    columns = [_column(name, runs, bounds) for name in names if name not in _ELSEWHERE]
    columns.append(_errors(runs))
    machines = _machines(runs)
    columns += machines
    keys += [column["name"] for column in machines]
    return {
        "columns": columns,
        "names": identify(runs),
        "marks": [mark_run(run) for run in runs],
        "rounds": [len(run.rounds) for run in runs],
        "search": _list_words(columns, len(runs)),
        "keys": keys,
        "filters": [*keys, "status"],
        "main": main,
        "phases": [_phase(phase, runs) for phase in PHASES],
        "colours": MODEL_COLOURS,
        "shapes": SHAPES,
    }


def _errors(runs: Sequence[Run]) -> dict[str, Any]:
    errors = [run.record.run.get("error") for run in runs]
    cells = [NOTHING if error is None else escape.shorten(str(error)) for error in errors]
    return _plain("error", "error", cells=cells, values=None, kind="text")


def _machines(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A column where runs were made on several kinds of machine, which no setting tells apart."""
    cells = [name_machine(run) for run in runs]
    if len(set(cells)) < 2:
        return []
    column = _plain(MACHINE, MACHINE, cells=cells, values=None, kind="text")
    return [column | {"is_setting": True}]


def _phase(phase: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Its times in the unit of the latency, so that they stack."""
    scale = find_scale("latency_s", [run.number("latency_s") for run in runs])
    sizes = [_divide(run.number(f"{phase}_s"), scale.factor) for run in runs]
    return {"name": phase, "colour": COLOURS[phase], "sizes": sizes}


def identify(runs: Sequence[Run]) -> list[str]:
    """A short name of each run that no other run of the page has."""
    shorts = [run.short for run in runs]
    return [
        short if shorts.count(short) == 1 else f"{short}~{position}"
        for position, short in enumerate(shorts)
    ]


def _list_words(columns: Sequence[dict[str, Any]], count: int) -> list[str]:
    """What a search finds a run by: its settings and its other texts."""
    texts = [column for column in columns if column["kind"] != "number" or column["is_setting"]]
    return [
        " ".join(column["cells"][run] for column in texts if column["cells"][run] != NOTHING)
        for run in range(count)
    ]


def _list_keys(runs: Sequence[Run]) -> list[str]:
    """The keys that describe runs or in which these runs differ; those that differ first."""
    keys = [key for key in list_keys(run.settings for run in runs) if _is_shown(key, runs)]
    differing = set(list_differing([run.settings for run in runs]))
    return sorted(keys, key=lambda key: (key != "model", key not in differing))


def _is_shown(key: str, runs: Sequence[Run]) -> bool:
    if key in ("model", "weights"):
        return True
    described = key in SUMMARY_COLUMNS and bool(metrics.find(key).phrase)
    return described or (bool(runs) and key in runs[0].distinct and root_of(key) == key)


def _column(
    name: str, runs: Sequence[Run], bounds: Sequence[dict[str, Interval | None]]
) -> dict[str, Any]:
    if name not in SUMMARY_COLUMNS or metrics.find(name).is_setting:
        return _setting(name, runs)
    metric = metrics.find(name)
    if name in TEXT_COLUMNS | FLAG_COLUMNS:
        cells = [NOTHING if run[name] is None else show_value(run[name]) for run in runs]
        return _plain(name, metric.title, cells=cells, values=None, kind="text")
    return _number(metric, runs, bounds)


def _setting(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    values = [run[name] for run in runs]
    unit = metrics.find(name).unit if name in SUMMARY_COLUMNS else COUNT
    is_text = any(isinstance(value, (str, bool)) for value in values)
    kind = "text" if is_text else "number"
    cells = [_show_setting(name, value) for value in values]
    head = head_of(name_key(name), "" if unit == COUNT else unit)
    numbers = None if is_text else values
    return _plain(name, head, cells=cells, values=numbers, kind=kind) | {"is_setting": True}


def _show_setting(name: str, value: Any) -> str:
    if value is None:
        return DEFAULT if name in ("prompt_len", "img_size") else NOTHING
    return show_value(value)


def _plain(
    name: str, head: str, *, cells: Sequence[str], values: Sequence[Any] | None, kind: str
) -> dict[str, Any]:
    """Without `values` a column is sorted by what its cells say."""
    return {
        "name": name,
        "head": head,
        "words": head,
        "unit": "",
        "kind": kind,
        "is_setting": False,
        "cells": cells,
        "values": values,
    }


def _number(
    metric: Metric, runs: Sequence[Run], phases: Sequence[dict[str, Interval | None]]
) -> dict[str, Any]:
    """Cells as the markdown pages have them, and the numbers behind them in the same unit."""
    scale = find_scale(metric.name, [run.number(metric.name) for run in runs])
    bounds = _list_bounds(metric, runs, phases)
    shown = _show(metric, runs, bounds)
    plain = _plain(metric.name, shown.head, cells=shown.cells, values=[], kind="number")
    return plain | {
        "words": metric.words,
        "unit": scale.unit,
        "values": [_divide(run.number(metric.name), scale.factor) for run in runs],
        "low": [None if one is None else _divide(one.low, scale.factor) for one in bounds],
        "high": [None if one is None else _divide(one.high, scale.factor) for one in bounds],
        "is_compared": metric.name in AT_READING,
    }


def _list_bounds(
    metric: Metric, runs: Sequence[Run], phases: Sequence[dict[str, Interval | None]]
) -> list[Interval | None]:
    phase = metric.name.removesuffix("_s")
    if phase in PHASES:
        return [own.get(phase) for own in phases]
    return [run.interval(metric.name) for run in runs]


def _show(metric: Metric, runs: Sequence[Run], bounds: Sequence[Interval | None]) -> Column:
    if not any(bounds):
        return number_column(runs, metric.name)
    values = [run.number(metric.name) for run in runs]
    return value_column(runs, metric.name, values=values, bounds=bounds)


def _divide(value: float | None, factor: float) -> float | None:
    return None if value is None else value / factor
