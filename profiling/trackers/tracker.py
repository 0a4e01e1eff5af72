"""The interface of a tracker, and the form in which it receives a record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from profiling.records import COMPLETED, Record
from profiling.report.read.readings import read_repeats

REPEATED = "repeats/latency_s"


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure of one record, as a temporary file."""

    name: str
    png: Path


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One record for a tracker: names with plain values."""

    id: str
    name: str
    completed: bool
    settings: Mapping[str, str]
    numbers: Mapping[str, float]
    texts: Mapping[str, str]
    latencies_s: tuple[float, ...]
    started_at: datetime
    finished_at: datetime
    folder: Path


class Tracker(Protocol):
    """Shows runs. Created in every process; may raise any error of its library."""

    def has(self, entry: Entry) -> bool: ...

    def add(self, entry: Entry, drawings: list[Drawing]) -> None: ...


def describe(record: Record) -> Entry:
    summary = {key: value for key, value in record.summary.items() if value is not None}
    numbers = {key: value for key, value in summary.items() if _is_number(value)}
    texts = {key: _write(value) for key, value in summary.items() if key not in numbers}
    return Entry(
        id=_identify(record),
        name=_name(record),
        completed=record.status == COMPLETED,
        settings=dict(_flatten("", record.config)),
        numbers={key: float(value) for key, value in numbers.items()},
        texts={**texts, **_facts(record)},
        latencies_s=_latencies_s(record),
        started_at=datetime.fromisoformat(record.run["started_at"]),
        finished_at=datetime.fromisoformat(record.run["finished_at"]),
        folder=record.folder,
    )


def _identify(record: Record) -> str:
    """An id; a record that replaces another in the same folder is another run."""
    facts = f"{record.folder.name} {record.run['started_at']}"
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _name(record: Record) -> str:
    summary = record.summary
    keys = ("model", "optimization", "dataset")
    words = [str(summary[key]) for key in keys]
    sizes = [f"{key}={summary[key]}" for key in ("img_size", "prompt_len", "batch_size")]
    return " ".join([*words, *sizes, record.folder.name[:8]])


def _facts(record: Record) -> dict[str, str]:
    run, machine = record.run, record.run["machine"]
    gpus = ", ".join(gpu["name"] for gpu in machine["gpus"])
    facts = {
        "folder": record.folder.name,
        "status": record.status,
        "error": run["error"],
        "commit": (run["git"] or {}).get("commit"),
        "cpu": machine["cpu_model"],
        "gpu": gpus or None,
    }
    return {key: str(value) for key, value in facts.items() if value is not None}


def _latencies_s(record: Record) -> tuple[float, ...]:
    repeats = read_repeats(record, metric="latency_s", phase="total")
    return tuple(repeat.value for repeat in repeats)


def _flatten(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", _write(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _write(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
