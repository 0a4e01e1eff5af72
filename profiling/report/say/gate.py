"""Judge a candidate against a baseline, one line per metric, for the exit status of a pipeline.

A metric passes where the data show that it is not worse by more than allowed, and fails where they
show that it is. Where they show neither, nothing is judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from profiling import metrics
from profiling.metrics import HIGHER, NEITHER
from profiling.report.read.plain_runs import SEPARATE_RUNS
from profiling.report.read.runs import ReportError, Run
from profiling.report.read.selection import check_column
from profiling.report.say.advice import (
    advise,
    say_how_to_pair,
    say_how_to_repeat,
)
from profiling.report.say.changes import Change, Rounds, find_change
from profiling.report.say.differences import SIGNIFICANCE, ScoreDifference, count_tail
from profiling.report.say.two_runs import (
    LIKELIHOOD,
    SCORED,
    before_is_after,
    equal_answers,
    have_same_samples,
    is_score,
    say_bounds,
    score_difference,
    share_tokens,
)
from profiling.report.say.units import quantity, signed
from profiling.statistics.intervals import Interval
from profiling.statistics.rounds import LEAST_ROUNDS

PASS, FAIL, UNDECIDED = "pass", "FAIL", "none"
# With fewer samples not even the same change of all of them would be significant.
LEAST_UNCHANGED = 6
# Of a limit that a change meets exactly.
_ROUNDING = 1e-12
_MORE_SAMPLES = "more samples (num_samples)"
# An interval is about half as wide with four times as many launches or rounds.
_TIMES_MORE = 4


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How much worse a column may be: a share of the baseline, or an amount in its own unit."""

    column: str
    allowed: float
    is_share: bool

    def __str__(self) -> str:
        return f"{100 * self.allowed:g}%" if self.is_share else f"{self.allowed:g}"

    @property
    def sign(self) -> int:
        return -1 if metrics.find(self.column).better == HIGHER else 1


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome for one metric, and the line that reports it; `reason` where it has none."""

    outcome: str
    line: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class _Worsening:
    """How much worse a column is, in the terms of its limit, and what that rests on.

    `more` says what narrows the interval.
    """

    bounds: Interval
    basis: str
    more: str = _MORE_SAMPLES


class _Undecidable(Exception):
    """The data cannot support a judgement; the message says why and what to do."""


def parse_limit(text: str) -> Limit:
    """`latency_s=5%` or `wer=0.01`."""
    column, equals, amount = text.partition("=")
    check_column(column, SCORED)
    if metrics.find(column).better == NEITHER:
        raise ReportError(f"{text}: {column} has no direction that is worse")
    is_share = amount.endswith("%")
    try:
        allowed = float(amount.removesuffix("%"))
    except ValueError:
        allowed = math.nan
    if not equals or not (math.isfinite(allowed) and allowed >= 0):
        raise ReportError(f"{text}: allowed is column=share% or column=amount, from 0 up")
    return Limit(column=column, allowed=allowed / 100 if is_share else allowed, is_share=is_share)


def judge_all(limits: Sequence[Limit], baseline: Rounds, candidate: Rounds) -> list[Verdict]:
    return [judge(limit, baseline, candidate) for limit in limits]


def judge(limit: Limit, baseline: Rounds, candidate: Rounds) -> Verdict:
    """The interval of the worsening against the limit."""
    try:
        before, after = (_value(limit.column, rounds[-1]) for rounds in (baseline, candidate))
        found = _measure(limit, baseline, candidate, before, after)
    except _Undecidable as problem:
        return Verdict(outcome=UNDECIDED, line=f"{UNDECIDED}  {problem}", reason=str(problem))
    shown = [quantity(value, metrics.find(limit.column).unit) for value in (before, after)]
    line = f"{limit.column}: {shown[0]} -> {shown[1]}, {found.basis}, allowed {limit}"
    outcome = _decide(limit, found.bounds)
    reason = "" if outcome != UNDECIDED else _explain(line, found)
    return Verdict(outcome=outcome, line=f"{outcome}  {reason or line}", reason=reason)


def _decide(limit: Limit, bounds: Interval) -> str:
    if bounds.high <= limit.allowed + _ROUNDING:
        return PASS
    return FAIL if bounds.low > limit.allowed + _ROUNDING else UNDECIDED


def _explain(line: str, found: _Worsening) -> str:
    return f"{line}: the interval holds the limit, so that the data do not decide; {found.more}"


def _value(column: str, run: Run) -> float:
    value = run.number(column)
    if value is None:
        reason = run.reason(column)
        raise _Undecidable(f"{column}: {run.short} has no value{f': {reason}' if reason else ''}")
    return value


def _measure(
    limit: Limit, baseline: Rounds, candidate: Rounds, before: float, after: float
) -> _Worsening:
    if metrics.find(limit.column).is_exact:
        return _compare_counts(limit, before, after)
    if _is_of_answers(limit.column):
        return _compare_scores(limit, baseline[-1], candidate[-1], before, after)
    return _compare_costs(limit, baseline, candidate)


def _is_of_answers(column: str) -> bool:
    metric = metrics.find(column)
    return is_score(column) and not metric.from_times and not metric.is_exact


def _as_worsening(limit: Limit, low: float, high: float, before: float) -> Interval:
    """The interval of after - before, as how much worse it is in the terms of the limit."""
    scale = abs(before) if limit.is_share else 1.0
    ends = sorted(_divide(limit.sign * end, scale) for end in (low, high))
    return Interval(low=ends[0], high=ends[1], confidence=1 - SIGNIFICANCE)


def _divide(difference: float, scale: float) -> float:
    if scale:
        return difference / scale
    return math.copysign(math.inf, difference) if difference else 0.0


# Counts


def _compare_counts(limit: Limit, before: float, after: float) -> _Worsening:
    """A count is the same in every run of a point."""
    change = signed(after / before - 1) if before else f"{after - before:+g}"
    difference = after - before
    bounds = _as_worsening(limit, difference, difference, before)
    return _Worsening(bounds=bounds, basis=f"{change}, counted")


# Costs


def _compare_costs(limit: Limit, baseline: Rounds, candidate: Rounds) -> _Worsening:
    """Times, joules and bytes: by paired comparison, or by rounds."""
    change = find_change(limit.column, baseline, candidate)
    bounds = None if change is None else change.relative_bounds
    if change is None or change.source == SEPARATE_RUNS or bounds is None:
        raise _Undecidable(_refuse_costs(limit.column, change, baseline, candidate))
    ends = [change.before * end for end in (bounds.low, bounds.high)]
    return _Worsening(
        bounds=_as_worsening(limit, min(ends), max(ends), change.before),
        basis=f"{signed(change.relative)} {say_bounds(bounds)} {change.source}",
        more=_say_more(change, baseline[-1], candidate[-1]),
    )


def _say_more(change: Change, before: Run, after: Run) -> str:
    """What to type for a narrower interval than that of a change."""
    if change.paired is not None:
        number = _TIMES_MORE * change.paired.launches
        return f"more launches: {say_how_to_pair(before, after)} --launches {number}"
    rounds = _TIMES_MORE * (LEAST_ROUNDS if change.rounds is None else change.rounds.rounds)
    return f"more rounds: {say_how_to_repeat(before, after, rounds=rounds)}"


def _refuse_costs(column: str, change: Change | None, baseline: Rounds, candidate: Rounds) -> str:
    if change is None:
        return f"{column}: cannot be judged where a value is not above zero"
    if before_is_after(baseline, candidate):
        how = say_how_to_repeat(baseline[-1], candidate[-1])
        return f"{column}: a run cannot be judged by itself; type {how} for more"
    if change.paired is not None:
        return (
            f"{column}: the paired comparison has {change.paired.why_unbounded}; type"
            f" {say_how_to_pair(baseline[-1], candidate[-1])}"
            f" --launches {change.paired.more_launches}"
        )
    how = advise(column, baseline[-1], candidate[-1])
    return (
        f"{column}: {quantity(change.before, metrics.find(column).unit)} ->"
        f" {quantity(change.after, metrics.find(column).unit)} in separate runs"
        f" ({len(baseline)} and {len(candidate)}), which have no interval, because how much equal"
        f" runs vary is unknown; type {how}"
    )


# Scores of the same samples


def _compare_scores(limit: Limit, before: Run, after: Run, old: float, new: float) -> _Worsening:
    """By sample where answers have scores of their own, else by the intervals of both runs."""
    _check_answers(limit.column, before, after)
    found = score_difference(limit.column, before, after)
    if found is not None:
        return _compare_samples(limit, found, old, new)
    if new == old and equal_answers(before, after) == 1 and _count(before) >= LEAST_UNCHANGED:
        return _unchanged(_count(before))
    ends = [run.interval(limit.column) for run in (before, after)]
    if ends[0] is None or ends[1] is None:
        raise _Undecidable(
            f"{limit.column}: has no interval, and not all answers are equal, so that chance cannot"
            " be told from a change; wer, accuracy and reference_nll can be judged"
        )
    low, high = _subtract(new, ends[1], old, ends[0])
    bounds = _as_worsening(limit, low, high, old)
    return _Worsening(bounds=bounds, basis=f"{new - old:+.3g} [{low:+.3g}, {high:+.3g}]")


def _check_answers(column: str, before: Run, after: Run) -> None:
    """Refuse scores of different samples, or of different tokens of the same references."""
    if not have_same_samples(before, after):
        raise _Undecidable(
            f"{column}: {before.short} and {after.short} answered different samples; measure both"
            " with the same dataset and num_samples"
        )
    if column == LIKELIHOOD and not share_tokens(before, after):
        raise _Undecidable(
            f"{column}: {before['model']} and {after['model']} have different tokens, so that"
            " their likelihoods cannot be compared"
        )


def _count(run: Run) -> int:
    return int(run.number("num_samples") or 0)


def _unchanged(samples: int) -> _Worsening:
    bounds = Interval(low=0.0, high=0.0, confidence=1 - SIGNIFICANCE)
    return _Worsening(bounds=bounds, basis=f"the same for each of {samples} samples")


def _subtract(new: float, above: Interval, old: float, below: Interval) -> tuple[float, float]:
    """The interval of a difference of shares (Newcombe, 1998); wide for the same samples."""
    difference = new - old
    down = math.hypot(new - above.low, below.high - old)
    up = math.hypot(above.high - new, old - below.low)
    return difference - down, difference + up


def _compare_samples(limit: Limit, found: ScoreDifference, old: float, new: float) -> _Worsening:
    """The spread of the samples' changes around the change of the column.

    The column may weight samples, as a corpus' error rate does by their length, so the interval of
    the plain mean is moved to the column's change.
    """
    if found.is_unchanged and new == old:
        if found.samples < LEAST_UNCHANGED:
            raise _Undecidable(f"{limit.column}: {found.samples} samples are too few to judge")
        return _unchanged(found.samples)
    bounds = found.bounds_around(new - old)
    if bounds is None:
        return _compare_signs(limit, found, (new - old) - found.change, old)
    low, high = bounds.low, bounds.high
    basis = f"{new - old:+.3g} [{low:+.3g}, {high:+.3g}] over {found.samples} samples"
    return _Worsening(bounds=_as_worsening(limit, low, high, old), basis=basis)


def _compare_signs(limit: Limit, found: ScoreDifference, shift: float, old: float) -> _Worsening:
    """Without an interval: so many samples worse by more than allowed that chance explains none."""
    allowed = limit.allowed * (abs(old) if limit.is_share else 1.0)
    beyond = [limit.sign * (change + shift) - allowed for change in found.changes]
    worse, better = sum(one > 0 for one in beyond), sum(one < 0 for one in beyond)
    if count_tail(worse, better) > SIGNIFICANCE / 2:
        raise _Undecidable(f"{limit.column}: {found.reason}; more samples (num_samples) decide")
    bounds = Interval(low=math.inf, high=math.inf, confidence=1 - SIGNIFICANCE)
    basis = f"worse by more than allowed in {worse} of {found.samples} samples"
    return _Worsening(bounds=bounds, basis=basis)
