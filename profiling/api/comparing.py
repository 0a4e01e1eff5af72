"""`profiling.compare` and `profiling.measure_pair`: is A faster than B, with an interval."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, TextIO

from profiling.api.loaded import Results, load
from profiling.api.measuring import one_line_errors
from profiling.api.overriding import write_overrides
from profiling.errors import ConfigError
from profiling.records import Comparison
from profiling.report.read.runs import ReportError, Run
from profiling.report.read.selection import select_sides
from profiling.report.say.changes import TIMED, find_change
from profiling.report.say.two_runs import write_comparison
from profiling.runs.paired.locked import compare as compare_points
from profiling.runs.paired.opposed import Opposed, require_shared
from profiling.runs.paired.showing import show
from profiling.runs.paired.side import SideFailed
from profiling.runs.progress import Progress
from profiling.runs.session import forget_checked
from profiling.versus import plan_side

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Pair:
    """What a comparison found: `ratio` is the time of A over the time of B.

    `ci_low` and `ci_high` are the ends of its 95% interval; None where the runs at hand determine
    none. `source` says what it rests on: `paired`, `rounds` or `separate runs`. `table` has the
    same for each phase. Printed, it is what the command line shows.
    """

    ratio: float
    ci_low: float | None
    ci_high: float | None
    source: str
    table: pandas.DataFrame
    lines: Sequence[str]

    @property
    def is_different(self) -> bool | None:
        """Whether the interval excludes equal times; None without an interval."""
        if self.ci_low is None or self.ci_high is None:
            return None
        return not self.ci_low <= 1 <= self.ci_high

    def __repr__(self) -> str:
        return "\n".join(self.lines)


def compare(a: str, b: str, results: Results | str | PathLike[str] = "results") -> Pair:
    """Compare two runs that were measured; A and B are `key=value,…` or part of a fingerprint.

    `results` is what `load` or `run` returned, or a folder. Nothing is measured: without a paired
    comparison or three rounds of both sides there is no interval.
    """
    found = results if isinstance(results, Results) else load(results)
    befores, afters = select_sides(a, b, found.every)
    lines = write_comparison(befores, afters)
    rows = {name: _row(column, befores, afters) for column, name in TIMED.items()}
    known = {name: row for name, row in rows.items() if row is not None}
    if "total" not in known:
        raise ReportError(f"{a}, {b}: a run has no latency, so that nothing can be compared")
    total = known["total"]
    return Pair(*total, _frame(known), lines)


def _row(
    column: str, befores: Sequence[Run], afters: Sequence[Run]
) -> tuple[float, float | None, float | None, str] | None:
    """The time of A over that of B; `find_change` has B over A."""
    change = find_change(column, befores, afters)
    if change is None:
        return None
    bounds = change.bounds
    ends = (None, None) if bounds is None else (1 / bounds.high, 1 / bounds.low)
    return (1 / change.ratio, *ends, change.source)


def _frame(rows: dict[str, tuple[float, float | None, float | None, str]]) -> pandas.DataFrame:
    import pandas

    columns = ["ratio", "ci_low", "ci_high", "source"]
    frame = pandas.DataFrame.from_dict(rows, orient="index", columns=columns)
    return frame.rename_axis("phase").astype({"ci_low": float, "ci_high": float})


def measure_pair(
    a: str | Mapping[str, object],
    b: str | Mapping[str, object],
    *overrides: str,
    launches: int | None = None,
    stream: TextIO | None = None,
    **keys: object,
) -> Pair:
    """Measure two points in turn, in fresh processes, and give the ratio of their times.

    A and B are overrides separated by blanks (`"optimization=bf16"`), or keys with values; the
    other arguments hold for both. With `launches` there are exactly so many pairs of processes;
    without, as many as the interval needs. A comparison that was measured before is read.

    Raises `ValueError` where a key or a value is wrong, and `RuntimeError` where a side fails.
    """
    if launches is not None and (not isinstance(launches, int) or launches < 1):
        raise ConfigError("launches", launches, "allowed is a whole number from 1")
    shared = write_overrides(overrides, keys)
    with one_line_errors():
        forget_checked()
        plans = [plan_side(_write_side(side), shared) for side in (a, b)]
        require_shared(*plans)
    opposed = Opposed(
        a=plans[0],
        b=plans[1],
        launches=launches or plans[0].point.launches,
        is_fixed=launches is not None,
    )
    progress = Progress(total=1, stream=stream or sys.stdout)
    progress.begin(opposed.label())
    try:
        comparison, was_kept = compare_points(opposed, notify=progress.phase)
    except SideFailed as failed:
        raise RuntimeError(f"{failed.side.upper()} {failed.status}: {failed.error}") from None
    finally:
        progress.close()
    told = f"{'kept' if was_kept else 'measured'} in {comparison.folder}"
    progress.end(told, measured=not was_kept)
    return _read_pair(comparison)


def _write_side(side: str | Mapping[str, object]) -> str:
    return side if isinstance(side, str) else shlex.join(write_overrides((), side))


def _read_pair(comparison: Comparison) -> Pair:
    parts = {"total": comparison.whole, **comparison.phases}
    rows = {name: (one.ratio, one.ci_low, one.ci_high, "paired") for name, one in parts.items()}
    return Pair(*rows["total"], _frame(rows), list(show(comparison)))
