"""Judge a candidate against a baseline, one line per metric, for the exit status of a pipeline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from profiling import metrics
from profiling.metrics import HIGHER, NEITHER
from profiling.report.read.runs import ReportError, Run
from profiling.report.read.selection import check_column
from profiling.report.say.differences import Difference
from profiling.report.say.two_runs import (
    Rounds,
    difference,
    say_p,
    signed,
)
from profiling.report.say.units import quantity


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How much worse a column may be: a share of the baseline, or an amount in its own unit."""

    column: str
    allowed: float
    is_share: bool

    def __str__(self) -> str:
        return f"{100 * self.allowed:g}%" if self.is_share else f"{self.allowed:g}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether one metric passes, and the line that reports it."""

    passed: bool
    line: str


def parse_limit(text: str) -> Limit:
    """`latency_s=5%` or `wer=0.01`."""
    column, equals, amount = text.partition("=")
    check_column(column)
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


def judge(limit: Limit, baseline: Rounds, candidate: Rounds) -> Verdict:
    """A metric fails when it is worse by more than allowed and the change is significant."""
    before, after = (_value(limit.column, run[-1]) for run in (baseline, candidate))
    found = difference(limit.column, baseline, candidate)
    worse = _worsening(limit, before, after, found)
    is_beyond = worse > limit.allowed + 1e-12
    passed = not is_beyond or (found is not None and not found.is_significant)
    shown = [quantity(value, metrics.find(limit.column).unit) for value in (before, after)]
    change = f"{signed(after / before - 1)}" if before else f"{after - before:+g}"
    line = f"{limit.column}: {shown[0]} -> {shown[1]}, {change}{_say(found)}, allowed {limit}"
    if is_beyond and passed:
        line += "; beyond the limit, but not significant"
    return Verdict(passed=passed, line=f"{'pass' if passed else 'FAIL'}  {line}")


def _value(column: str, run: Run) -> float:
    value = run.number(column)
    if value is None:
        reason = run.reason(column)
        raise ReportError(f"{column}: {run.short} has no value{f': {reason}' if reason else ''}")
    return value


def _worsening(limit: Limit, before: float, after: float, found: Difference | None) -> float:
    """How much worse the candidate is, in the terms of the limit; negative when it is better."""
    sign = -1 if metrics.find(limit.column).better == HIGHER else 1
    if not limit.is_share:
        return sign * (after - before)
    if found is not None:
        return sign * found.change
    if before == 0:
        return 0.0 if after == 0 else sign * math.copysign(math.inf, after)
    return sign * (after - before) / abs(before)


def _say(found: Difference | None) -> str:
    if found is None:
        return ""
    bounds = found.bounds
    within = "" if bounds is None else f" [{signed(bounds.low)}, {signed(bounds.high)}]"
    return f", paired {signed(found.change)}{within} {say_p(found.p_value)}"


def judge_all(limits: Sequence[Limit], baseline: Rounds, candidate: Rounds) -> list[Verdict]:
    return [judge(limit, baseline, candidate) for limit in limits]
