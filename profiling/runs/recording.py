"""What the record of a point holds: its facts, its summary, its readings and its answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from profiling.records import (
    AT_READING,
    COMPLETED,
    SUMMARY_COLUMNS,
    Reading,
    summarize,
    write_record,
)
from profiling.runs.job import Job

TRACE_FILE = "trace.json"


def record(
    job: Job,
    *,
    status: str,
    error: str | None,
    dtype: str | None,
    computes_in: str | None,
    readings: list[Reading],
    answers: list[dict[str, Any]],
    noise: str | None = None,
    trace: bytes | None = None,
) -> dict[str, Any]:
    """Write the record of a point and return its summary."""
    columns = [column for column in SUMMARY_COLUMNS if column not in AT_READING]
    summary = dict.fromkeys(columns) | {
        "fingerprint": job.facts["fingerprint"],
        "status": status,
        **job.point.as_columns(),
        "dtype": dtype,
        "computes_in": computes_in,
        **summarize(readings),
        "noisy": None if status != COMPLETED else noise is not None,
        "noise_reason": noise,
    }
    run = {
        **job.facts,
        "status": status,
        "error": error,
        "finished_at": now(),
        "summary": summary,
    }
    files = {} if trace is None else {TRACE_FILE: trace}
    write_record(job.folder, run=run, readings=readings, answers=answers, files=files)
    return summary


def record_without_findings(job: Job, *, status: str, error: str) -> dict[str, Any]:
    """The record of a point that was not measured to its end."""
    return record(
        job,
        status=status,
        error=error,
        dtype=None,
        computes_in=None,
        readings=[],
        answers=[],
    )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
