"""The change of the word error rate between two runs, as columns of a table."""

from __future__ import annotations

from profiling.report.read.runs import Run
from profiling.report.say.two_runs import error_difference


def change_columns(before: Run, after: Run, name: str) -> dict[str, object]:
    """The mean change over the samples that both answered, under `name`; nothing without samples.

    `called` says whether the 95% interval excludes no change.
    """
    found = error_difference(before, after)
    if found is None:
        return {}
    low, high = (found.bounds.low, found.bounds.high) if found.bounds else (None, None)
    return {
        "samples": found.samples,
        name: found.change,
        "ci_low": low,
        "ci_high": high,
        "better": found.better,
        "worse": found.worse,
        "called": found.is_different,
    }
