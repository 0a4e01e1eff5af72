"""Write all runs as one CSV or JSON file, one row per run, for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from profiling.metrics import SUMMARY_COLUMNS
from profiling.records import tabulate
from profiling.report.read.runs import Run

if TYPE_CHECKING:
    import pandas


_RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")


def to_csv(runs: Sequence[Run]) -> str:
    """The summary columns and no others; an empty cell where there is no value."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(SUMMARY_COLUMNS)
    writer.writerows([_cell(run[column]) for column in SUMMARY_COLUMNS] for run in runs)
    return stream.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return _inert(value) if isinstance(value, str) else repr(value)


def _inert(text: str) -> str:
    """A text that a spreadsheet shows and does not run, with an apostrophe as people type it."""
    return f"'{text}" if text.startswith(_RUN_BY_SPREADSHEETS) else text


def to_frame(runs: Sequence[Run]) -> pandas.DataFrame:
    """The same rows as a data frame, for notebooks; NaN or None where there is no value."""
    return tabulate([run.columns for run in runs])


def to_json(runs: Sequence[Run]) -> str:
    """The same rows as a list of objects; null where there is no value."""
    rows = [{column: run[column] for column in SUMMARY_COLUMNS} for run in runs]
    return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
