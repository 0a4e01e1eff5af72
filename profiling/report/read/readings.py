"""Read the readings of a record: status and source of its aggregates, and its raw repeats."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from profiling.files import LARGEST_TABLE, describe, open_file
from profiling.records import (
    DERIVED,
    ESTIMATED,
    MEASURED,
    READING_FIELDS,
    UNAVAILABLE,
    BrokenRecord,
    Record,
)

_STATUSES = frozenset({MEASURED, ESTIMATED, DERIVED, UNAVAILABLE})
# Status and source.
Provenance = tuple[str, str]
# No quantity is larger, and a whole number far beyond it is not even a float.
_LARGEST = 1e100
_CONFIDENCE = re.compile(r"\bconfidence (\d+(?:\.\d+)?)%")


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """One raw value with its repeat, and with its batch, which other runs have too."""

    repeat: int
    batch: int
    value: float


def is_number(value: object) -> bool:
    """Whether a value is a finite number; no other value is formatted or plotted."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < _LARGEST


def read_provenance(record: Record) -> dict[str, Provenance]:
    """Status and source of every aggregate that was not measured, or whose source has a figure."""
    provenance = {}
    for _, metric, _, _, status, source, repeat, batch in read_rows(record):
        if not repeat and not batch and (status != MEASURED or _CONFIDENCE.search(source)):
            provenance[metric] = (status, source)
    return provenance


def find_confidence(source: str) -> float | None:
    """The confidence that an interval reaches, where the source of its ends says it."""
    found = _CONFIDENCE.search(source)
    return None if found is None else float(found[1]) / 100


def read_repeats(record: Record, *, metric: str, phase: str) -> list[Repeat]:
    """The raw values of one metric of one phase, in the order of time."""
    return [
        Repeat(repeat=int(repeat or 0), batch=int(batch or 0), value=float(value))
        for own_phase, own_metric, value, _, _, _, repeat, batch in read_rows(record)
        if own_metric == metric and own_phase == phase and value and (repeat or batch)
    ]


def read_phase_repeats(record: Record) -> dict[str, list[float]]:
    """The raw latencies of every phase."""
    phases: dict[str, list[float]] = {}
    for phase, metric, value, _, _, _, repeat, _ in read_rows(record):
        if metric == "latency_s" and value and repeat:
            phases.setdefault(phase, []).append(float(value))
    return phases


def read_rows(record: Record) -> Iterator[list[str]]:
    """The fields of each reading as text; none where a run has no readings."""
    path = record.folder / "readings.csv"
    try:
        content = open_file(path, at_most=LARGEST_TABLE)
    except FileNotFoundError:
        return
    except OSError as error:
        raise BrokenRecord(f"{path}: cannot be read: {describe(error)}") from None
    with io.TextIOWrapper(content, encoding="utf-8", newline="") as stream:
        rows = csv.reader(stream)
        try:
            next(rows, None)
            for row in rows:
                _check(row)
                yield row
        except (ValueError, csv.Error) as error:
            raise BrokenRecord(f"{path}: line {rows.line_num}: {error}") from None


def _check(row: list[str]) -> None:
    if len(row) != len(READING_FIELDS):
        raise ValueError(f"{len(row)} cells instead of {len(READING_FIELDS)}")
    _, _, value, _, status, _, repeat, batch = row
    if status not in _STATUSES:
        raise ValueError(f"status {status!r}")
    if value and not math.isfinite(float(value)):
        raise ValueError(f"{value} is not a number")
    for count in (repeat, batch):
        if count and not count.isdecimal():
            raise ValueError(f"{count!r} is not the number of a repeat or batch")
