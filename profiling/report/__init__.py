"""From records to answers: tables, pages, figures and comparisons, without torch."""

from __future__ import annotations

from profiling.report.read.runs import (
    ReportError,
    Run,
    Runs,
    read_runs,
)
from profiling.report.write.csv_json import to_frame

__all__ = ["ReportError", "Run", "Runs", "read_runs", "to_frame"]
