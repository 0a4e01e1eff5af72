"""By how much a cost changes between two points, and whether the runs can tell.

Times of two runs differ by the state of the machine and by what each process was given, and the
repeats inside a run do not show how much that is. So a change has an interval only where the points
were measured in pairs, or where both were measured in at least three rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from profiling import metrics
from profiling.metrics import PHASES, TOTAL
from profiling.report.read.paired import PairedTimes
from profiling.report.read.plain_runs import PAIRED, SEPARATE_RUNS
from profiling.report.read.runs import Run, find_paired
from profiling.report.read.sweeps import round_of
from profiling.statistics.intervals import Interval
from profiling.statistics.ratios import Ratio
from profiling.statistics.rounds import (
    LEAST_ROUNDS,
    RoundsChange,
    compare_matched,
    compare_unmatched,
)

Rounds = Sequence[Run]
ROUNDS, EXACT = "rounds", "exact"
# What paired comparisons time, by column.
TIMED = {"latency_s": TOTAL, **{f"{phase}_s": phase for phase in PHASES}}
# Work of a batch over its latency.
RATES = ("samples_per_s", "tokens_per_s")
# The baseline's time over that of a run: of one baseline, it changes as times do.
SPEEDUP = "speedup"


@dataclass(frozen=True, kw_only=True)
class Change:
    """After over before, and its interval where the runs determine one.

    `source` is `paired`, `rounds`, `exact` (the same in every run of a point) or `separate runs`.
    """

    source: str
    before: float
    after: float
    ratio: float
    bounds: Interval | None
    paired: PairedTimes | None
    rounds: RoundsChange | None

    @property
    def relative(self) -> float:
        """0.05 is 5% more."""
        return self.ratio - 1

    @property
    def relative_bounds(self) -> Interval | None:
        """The interval of the relative change; one point where every run has the same value."""
        if self.is_constant:
            return Interval(low=self.relative, high=self.relative, confidence=1.0)
        if self.bounds is None:
            return None
        low, high = self.bounds.low - 1, self.bounds.high - 1
        return Interval(low=low, high=high, confidence=self.bounds.confidence)

    @property
    def is_constant(self) -> bool:
        """Whether each side has one value, be it counted or the same in all of its rounds."""
        return self.source == EXACT or (self.rounds is not None and self.bounds is None)

    @property
    def is_different(self) -> bool:
        """Whether the interval excludes no change."""
        bounds = self.relative_bounds
        return bounds is not None and not bounds.holds(0.0)


def find_change(column: str, befores: Rounds, afters: Rounds) -> Change | None:
    """The change of a column whose values are positive; None where a side has no such value."""
    sides = [_values(column, rounds) for rounds in (befores, afters)]
    if not all(sides):
        return None
    before, after = (median(side) for side in sides)
    paired = _find_paired(column, befores[-1], afters[-1])
    ratio = _take_ratio(column, befores[-1], afters[-1], paired) if paired else None
    rounds = None
    if ratio is None or ratio.low is None:
        rounds = _compare_rounds(column, befores, afters)
    if rounds:
        # Pairs of too few launches have no interval, which rounds have.
        paired = ratio = None
    return Change(
        source=_name_source(column, paired, rounds),
        before=before,
        after=after,
        ratio=ratio.value if ratio else rounds.ratio if rounds else after / before,
        bounds=_as_interval(ratio) if ratio else rounds.interval if rounds else None,
        paired=paired,
        rounds=rounds,
    )


def _name_source(column: str, paired: PairedTimes | None, rounds: RoundsChange | None) -> str:
    if metrics.is_declared(column) and metrics.find(column).is_exact:
        return EXACT
    return PAIRED if paired else ROUNDS if rounds else SEPARATE_RUNS


def _values(column: str, rounds: Rounds) -> list[float]:
    """The value of each round; none where one of them lacks a positive one."""
    values = [run.number(column) for run in rounds]
    known = [value for value in values if value is not None and value > 0]
    return known if len(known) == len(values) else []


def _find_paired(column: str, before: Run, after: Run) -> PairedTimes | None:
    """The time of `after` over that of `before`, if it was measured for this column."""
    if column in RATES and not all(run.number("latency_s") for run in (before, after)):
        return None
    if column == SPEEDUP and before.baseline != after.baseline:
        return None
    paired = find_paired(after, before)
    phase = TOTAL if column in (*RATES, SPEEDUP) else TIMED.get(column)
    return paired if paired is not None and phase in paired.times else None


def _take_ratio(column: str, before: Run, after: Run, paired: PairedTimes) -> Ratio:
    if column in TIMED:
        return paired.times[TIMED[column]]
    time, more = paired.whole, 1.0
    if column in RATES:
        more = _work_of(column, after) / _work_of(column, before)
    return Ratio(
        value=more / time.value,
        low=None if time.high is None else more / time.high,
        high=None if time.low is None else more / time.low,
        confidence=time.confidence,
    )


def _work_of(rate: str, run: Run) -> float:
    """What a batch does: its samples or tokens."""
    return (run.number(rate) or 0.0) * (run.number("latency_s") or 0.0)


def _as_interval(ratio: Ratio) -> Interval | None:
    if ratio.low is None or ratio.high is None or ratio.confidence is None:
        return None
    return Interval(low=ratio.low, high=ratio.high, confidence=ratio.confidence)


def _compare_rounds(column: str, befores: Rounds, afters: Rounds) -> RoundsChange | None:
    """One number for each round: matched by `round`, else all of one side with all of the other."""
    sides = [{round_of(run): run for run in rounds} for rounds in (befores, afters)]
    shared = sorted(sides[0].keys() & sides[1].keys())
    if len(shared) >= LEAST_ROUNDS:
        before, after = (_values(column, [side[number] for number in shared]) for side in sides)
        return compare_matched(before, after)
    if min(len(befores), len(afters)) < LEAST_ROUNDS:
        return None
    return compare_unmatched(_values(column, befores), _values(column, afters))
