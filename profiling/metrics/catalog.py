"""Every metric by its name, and the lists that the rest of the project derives from them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from profiling.metrics.answers import QUALITY
from profiling.metrics.comparison import COMPARISON
from profiling.metrics.declaration import (
    ADDED,
    EXPERIMENT,
    FIXED,
    FLAG,
    REPORT,
    TEXT,
    WHOLE,
    Entry,
    Metric,
)
from profiling.metrics.divergence import DIVERGENCE
from profiling.metrics.energy import ENERGY
from profiling.metrics.flops import FLOPS
from profiling.metrics.latency import LATENCY
from profiling.metrics.memory import MEMORY
from profiling.metrics.noise import NOISE
from profiling.metrics.operators import OPERATORS
from profiling.metrics.roofline import ROOFLINE
from profiling.metrics.run import THE_RUN
from profiling.metrics.server import SERVER
from profiling.metrics.tokens import TOKENS
from profiling.metrics.variant import VARIANT

GROUPS = (
    *(THE_RUN, LATENCY, OPERATORS, ENERGY, FLOPS, ROOFLINE, MEMORY, VARIANT),
    *(QUALITY, COMPARISON, TOKENS, SERVER, NOISE, DIVERGENCE),
)
# Imported when a name is not found: its files declare metrics of their own.
_DECLARING_ROOM = "profiling.quality"


class UndeclaredMetric(LookupError):
    """A programming error: a name that no declaration has."""

    def __init__(self, name: str, known: Collection[str]) -> None:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"; declared and similar: {', '.join(close)}" if close else ""
        super().__init__(
            f"{name!r} is not a declared metric: declare it in profiling/metrics/, or, for a text"
            f" metric, in its file{hint}"
        )


def _index(entries: Collection[Entry]) -> Iterator[tuple[str, Metric]]:
    for entry in entries:
        for declared in entry.metrics:
            for metric in declared.expand():
                yield metric.name, metric


_METRICS: dict[str, Metric] = {}
# By the text metric that declared them in its own file.
_OWN_ENTRIES: dict[str, tuple[Entry, ...]] = {}


def _add(entries: Collection[Entry]) -> None:
    for name, metric in _index(entries):
        if name in _METRICS:
            raise ValueError(f"two metrics are called {name}")
        _METRICS[name] = metric


for _group in GROUPS:
    _add(_group.entries)


def declare(giver: str, entries: Collection[Entry]) -> None:
    """Add the metrics that a text metric declares in its own file."""
    _add(entries)
    _OWN_ENTRIES[giver] = tuple(entries)


def list_own_entries() -> tuple[Entry, ...]:
    """What text metrics have declared in their own files, by the name of the text metric."""
    _import_own()
    return tuple(entry for giver in sorted(_OWN_ENTRIES) for entry in _OWN_ENTRIES[giver])


@cache
def _import_own() -> None:
    import_module(_DECLARING_ROOM).find_metrics()


def is_declared(name: str) -> bool:
    if name not in _METRICS:
        _import_own()
    return name in _METRICS


def find(name: str) -> Metric:
    """The declaration of a metric; a name that has none is a programming error."""
    if not is_declared(name):
        raise UndeclaredMetric(name, _METRICS)
    return _METRICS[name]


def list_given(giver: str) -> list[Metric]:
    """The metrics that a probe or a text metric leaves rows of."""
    return [metric for metric in _METRICS.values() if giver in metric.given_by]


def list_shown(table: str) -> list[str]:
    """The columns of a report's table, in the order in which they are declared."""
    return [name for name, metric in _METRICS.items() if table in metric.tables]


def expected(config: Mapping[str, Any], *, text_metrics: Collection[str]) -> frozenset[str]:
    """The metrics that the record of a completed point must have a row for.

    `text_metrics` are the names of those that suit the data set. The engine makes no difference:
    what it cannot see has a row without a value, which says why.
    """
    profiler = config["profiler"]
    givers = {EXPERIMENT, *profiler["probes"], *text_metrics}
    givers |= {name for name in ("noise", "roofline") if name in profiler}
    givers |= {name for name in ("divergence",) if config.get(name)}
    return frozenset(
        name
        for name, metric in _METRICS.items()
        if metric.is_always_there and givers.intersection(metric.given_by)
    )


def _list_columns(place: str) -> tuple[str, ...]:
    return tuple(name for name, metric in _METRICS.items() if metric.column == place)


SUMMARY_COLUMNS = (*_list_columns(FIXED), *_list_columns(ADDED))
_COLUMNS = [_METRICS[name] for name in SUMMARY_COLUMNS]
TEXT_COLUMNS = frozenset(column.name for column in _COLUMNS if column.kind == TEXT)
FLAG_COLUMNS = frozenset(column.name for column in _COLUMNS if column.kind == FLAG)
WHOLE_COLUMNS = frozenset(column.name for column in _COLUMNS if column.kind == WHOLE)
SETTING_COLUMNS = tuple(column.name for column in _COLUMNS if column.is_setting)
AT_READING = tuple(column.name for column in _COLUMNS if column.given_by == (REPORT,))
# Which column keeps the source of a reading.
SOURCE_COLUMNS = {
    column.name: column.source_column for column in _COLUMNS if column.source_column is not None
}
