"""From records to answers: tables, pages, figures and comparisons, without torch."""

from __future__ import annotations

from profiling.report.export import to_frame
from profiling.report.runs import ReportError, Run, Runs, read_runs

__all__ = ["ReportError", "Run", "Runs", "read_runs", "to_frame"]
