"""Writes the page that explains every column, from the declarations."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence

from profiling.metrics.answers import QUALITY
from profiling.metrics.catalog import GROUPS
from profiling.metrics.declaration import FLAG, PLACEHOLDERS, TEXT, Entry, Group, Metric

HEADER = ("column", "unit", "definition", "method and sources", "uncertainty", "limits")
_WIDTH = 100
_INTRODUCTION = """This page is made by `python -m profiling.metrics` from the declarations in
`profiling/metrics/`.

There is one entry for every column of the summary and for every other metric in `readings.csv`:
its unit, its definition, how it is measured and from which sources in which order, its uncertainty
and its limits. [numbers.md](numbers.md) is a shorter introduction. A name in angle brackets stands
for several: `<phase>` is {phase}; `<component>` is {component}; `<part>` is {part}.

A number is `measured`, `derived`, `estimated`, or `unavailable` with the reason in its `source`. An
empty cell is never 0. `python -m profiling.selfcheck` compares the instruments of a machine with
known answers, and says what that machine cannot measure."""


def write_page(own_entries: Collection[Entry]) -> str:
    """The page; `own_entries` are those of text metrics that declare themselves in their files."""
    lines = ["# Every column and how it is measured", "", *_fill(_introduce())]
    for group in GROUPS:
        entries = (*group.entries, *own_entries) if group is QUALITY else group.entries
        lines += _section(group, entries)
    return "\n".join(lines).rstrip() + "\n"


def _introduce() -> str:
    return _INTRODUCTION.format(**{word: _choose(values) for word, values in PLACEHOLDERS.items()})


def _choose(values: Sequence[str]) -> str:
    *first, last = (f"`{value}`" for value in values)
    return f"{', '.join(first)} or {last}"


def _section(group: Group, entries: Collection[Entry]) -> Iterator[str]:
    yield from (f"## {group.title}", "")
    yield from _fill(group.text)
    yield from _fill(f"Sources: {' '.join(group.literature.split())}")
    yield _row(HEADER)
    yield "|" + "---|" * len(HEADER)
    yield from (_row(_cells(entry)) for entry in entries)
    yield ""


def _fill(text: str) -> Iterator[str]:
    for paragraph in filter(None, text.split("\n\n")):
        yield from textwrap.wrap(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False)
        yield ""


def _cells(entry: Entry) -> tuple[str, ...]:
    names = [metric.name.replace("{", "<").replace("}", ">") for metric in entry.metrics]
    units = dict.fromkeys(map(_name_unit, entry.metrics))
    return (
        ", ".join(f"`{name}`" for name in names),
        ", ".join(units),
        entry.definition,
        entry.method,
        entry.uncertainty,
        entry.limits,
    )


def _name_unit(metric: Metric) -> str:
    return metric.kind if metric.kind in (TEXT, FLAG) else metric.unit


def _row(cells: Collection[str]) -> str:
    return f"| {' | '.join(cells)} |"
