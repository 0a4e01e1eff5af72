"""Refuse a record that can be parsed but lacks what a report needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from profiling.records import COMPLETED, BrokenRecord, Record

# Every completed run has these; `prompt_len` and most measurements may be missing.
NEEDED_TEXTS = ("model", "weights", "dataset", "optimization")
NEEDED_NUMBERS = ("batch_size", "max_new_tokens")


def check_record(record: Record) -> None:
    """Raise for the first error, with the file and the place in it."""
    for place, is_right in _checks(record):
        if not is_right:
            raise BrokenRecord(f"{record.folder / 'run.json'}: {place} is missing or invalid")


def _checks(record: Record) -> Iterator[tuple[str, bool]]:
    """In this order: later checks rely on the results of earlier ones."""
    run, summary = record.run, record.run["summary"]
    if record.status == COMPLETED:
        for name in NEEDED_TEXTS:
            yield f"summary.{name}", bool(summary.get(name))
        for name in NEEDED_NUMBERS:
            yield f"summary.{name}", (summary.get(name) or 0) > 0
        # A run whose pictures were as large as its processor made them says so.
        native = run["config"].get("img_size", "missing") is None
        yield "summary.img_size", native or (summary.get("img_size") or 0) > 0
    yield "summary.latency_s", summary.get("latency_s") is None or summary["latency_s"] > 0
    yield "machine", _is_machine(run["machine"])
    yield "versions", isinstance(run.get("versions"), dict | None)
    for name in ("error", "started_at"):
        yield name, isinstance(run.get(name), str | None)
    yield "config.round", _is_count(run["config"].get("round", 1))


def _is_machine(machine: dict[str, Any]) -> bool:
    names = machine.get("gpu_models")
    gpus = machine.get("gpus") or []
    boards = isinstance(gpus, list) and all(
        isinstance(gpu, dict) and isinstance(gpu.get("name"), str) for gpu in gpus
    )
    return boards and (
        names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
