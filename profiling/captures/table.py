"""Findings as lines for a terminal: a row a kind of module, then what follows from them."""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from profiling.captures.blind_spots import BlindSpot
from profiling.captures.findings import Column, Findings

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.|$)")
_NARROW = 9
_MOST_SPOTS = 12


def pattern_of(path: str) -> str:
    """The path with `*` for the numbers of layers."""
    return _NUMBER.sub("*", path)


def lines(findings: Findings, *, width: int) -> Iterator[str]:
    yield from _rows(findings, width)
    for sentence in findings.sentences:
        yield from textwrap.wrap(sentence, width, subsequent_indent="    ")
    if findings.blind:
        count = len(findings.blind)
        yield f"blind spots, of which no captured call would show an error: {count}"
        grouped = _group(findings.blind)
        for text in grouped[:_MOST_SPOTS]:
            yield from textwrap.wrap(f"  {text}", width, subsequent_indent="    ")
        if len(grouped) > _MOST_SPOTS:
            yield f"  and {len(grouped) - _MOST_SPOTS} more kinds; --json and --html list them all"


def _group(spots: Sequence[BlindSpot]) -> list[str]:
    """One line for what is the same in every layer."""
    counts = Counter((s.subject, pattern_of(s.name), s.reason) for s in spots)
    return [
        f"{subject} {name}{f' ({count} of them)' if count > 1 else ''}: {reason}"
        for (subject, name, reason), count in counts.items()
    ]


def _rows(findings: Findings, width: int) -> Iterator[str]:
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in findings.rows:
        grouped.setdefault((pattern_of(row["module"]), row["kind"]), []).append(row)
    if not grouped:
        return
    columns = findings.columns
    free = width - 6 - 7 - (_NARROW + 1) * len(columns)
    title = "".join(f" {column.title:>{_NARROW}}" for column in columns)
    yield f"{'module':<{free}} calls failed{title}"
    for (path, kind), rows in grouped.items():
        failed = sum(row["failed"] for row in rows)
        numbers = "".join(f" {_worst(rows, column):>{_NARROW}}" for column in columns)
        name = _shorten(f"{path or '(whole)'} {kind}" if free > 60 else path or "(whole)", free)
        yield f"{name:<{free}} {len(rows):5d} {failed or '-':>6}{numbers}"
    yield "limit".ljust(free + 13) + "".join(f" {_limit(column):>{_NARROW}}" for column in columns)


def _worst(rows: Sequence[dict[str, Any]], column: Column) -> str:
    values = [row[column.key] for row in rows if row[column.key] is not None]
    if not values:
        return "-"
    return number(math.nan if any(map(math.isnan, values)) else max(values))


def _limit(column: Column) -> str:
    return "" if column.limit is None else number(column.limit)


def number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.2f}" if 0.01 <= value < 1000 else f"{value:.0e}"


def _shorten(text: str, width: int) -> str:
    """Both ends of a path that is too long, since the end says which module it is."""
    if len(text) <= width:
        return text
    head = max(width // 3, 1)
    return f"{text[:head]}…{text[-(width - head - 1) :]}"
