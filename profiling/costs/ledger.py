"""Counts of many points under many conventions: as aligned text, as CSV, and as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiling.costs.conventions import Convention, Entry

GIGA = 1e9
PHASES = ("vision", "projector", "prefill", "decode")
EXPLAINED_FIELDS = ("phase", "what", "formula", "amount")


@dataclass(frozen=True, kw_only=True)
class Count:
    """One point under one convention."""

    settings: Mapping[str, Any]  # what was asked, and the numbers of tokens
    convention: Convention
    entries: tuple[Entry, ...]

    @property
    def total(self) -> float:
        return sum(entry.amount for entry in self.entries)

    def of_phase(self, phase: str) -> float | None:
        """The amount of a phase; None where the convention leaves it out."""
        amounts = [entry.amount for entry in self.entries if entry.phase == phase]
        return sum(amounts) if amounts else None

    def as_row(self) -> dict[str, Any]:
        phases = {phase: self.of_phase(phase) for phase in PHASES}
        head = {"convention": self.convention.name, "unit": self.convention.unit}
        return {**self.settings, **head, **phases, "total": self.total}


def to_json(counts: Sequence[Count], predictions: Sequence[Mapping[str, Any]]) -> str:
    """Every count with its lines, and the predictions."""
    listed = [
        {
            **count.as_row(),
            "counts": count.convention.says,
            "entries": [entry._asdict() for entry in count.entries],
        }
        for count in counts
    ]
    content = {"counts": listed, **({"predictions": list(predictions)} if predictions else {})}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line a row; the columns of the first row come first."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def explained_rows(counts: Sequence[Count]) -> list[dict[str, Any]]:
    """A row for each line of each count."""
    return [
        {
            **count.settings,
            "convention": count.convention.name,
            "unit": count.convention.unit,
            **entry._asdict(),
        }
        for count in counts
        for entry in count.entries
    ]


def tabulate(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Aligned columns under their names; words to the left, numbers to the right."""
    names = list(rows[0])
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    words = {name for name in names if any(row[name][:1].isalpha() for row in rows)}
    for row in ({name: name for name in names}, *rows):
        cells = (
            row[name].ljust(widths[name]) if name in words else row[name].rjust(widths[name])
            for name in names
        )
        yield "  ".join(cells).rstrip()


def write_counts(counts: Sequence[Count]) -> Iterator[str]:
    """A line a count; settings that all share stand above."""
    varying = [
        name
        for name in counts[0].settings
        if len({str(count.settings[name]) for count in counts}) > 1
    ]
    shared = {name: value for name, value in counts[0].settings.items() if name not in varying}
    yield ", ".join(f"{name}={_show(value)}" for name, value in shared.items())
    yield ""
    yield from tabulate([_as_text(count, varying) for count in counts])
    for convention in {count.convention.name: count.convention for count in counts}.values():
        yield ""
        yield f"{convention.name}: {convention.says} (used by {convention.used_by})"


def _as_text(count: Count, varying: Sequence[str]) -> dict[str, str]:
    amounts = {phase: count.of_phase(phase) for phase in PHASES} | {"total": count.total}
    return {
        **{name: _show(count.settings[name]) for name in varying},
        "convention": count.convention.name,
        **{name: "-" if value is None else giga(value) for name, value in amounts.items()},
        "unit": f"G{count.convention.unit}",
    }


def write_entries(count: Count) -> Iterator[str]:
    """The lines of one count, which add up to its last line."""
    unit = count.convention.unit
    lines = [
        {"phase": one.phase, "what": one.what, "formula": one.formula, f"G{unit}": giga(one.amount)}
        for one in count.entries
    ]
    total = {"phase": "total", "what": "", "formula": "", f"G{unit}": giga(count.total)}
    yield f"{count.convention.name}: {count.convention.says}"
    yield from ("  " + line for line in tabulate([*lines, total]))


def giga(value: float) -> str:
    return f"{value / GIGA:,.3f}"


def _show(value: object) -> str:
    return "null" if value is None else str(value)
