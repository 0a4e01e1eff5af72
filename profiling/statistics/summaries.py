"""The summary of one set of repeats, with the reason for each figure that is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from profiling.statistics.autocorrelation import count_effective
from profiling.statistics.drift import Drift, describe_drift, find_drift, leads_out_of
from profiling.statistics.intervals import Interval
from profiling.statistics.medians import bound_median, take_quantile

P95_MINIMUM = 100
LEAST_REPEATS = 6


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Figures of one set of repeats; one that cannot be had is None and `missing` says why."""

    n: int
    median: float | None
    mean: float | None
    std: float | None
    minimum: float | None
    maximum: float | None
    p95: float | None
    low: float | None
    high: float | None
    confidence: float | None
    effective_n: int
    missing: dict[str, str]


def bound_level(values: Sequence[float]) -> Interval | None:
    """The interval of the median; None also where the level drifts out of it."""
    return _judge_level(values)[0]


def _judge_level(values: Sequence[float]) -> tuple[Interval | None, Drift | None]:
    """The interval of the median, or the drift that leaves it."""
    bounds = bound_median(values) if values else None
    drift = find_drift(values)
    if drift is not None and (bounds is None or leads_out_of(drift, values, bounds)):
        return None, drift
    return bounds, None


def summarize(values: Sequence[float]) -> Summary:
    n = len(values)
    interval, drift = _judge_level(values)
    effective = count_effective(values) if n else 0
    return Summary(
        n=n,
        median=median(values) if n else None,
        mean=fmean(values) if n else None,
        std=stdev(values) if n > 1 else None,
        minimum=min(values, default=None),
        maximum=max(values, default=None),
        p95=take_quantile(values, 0.95) if n >= P95_MINIMUM else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        confidence=interval.confidence if interval else None,
        effective_n=effective,
        missing=_explain_missing(n, effective, interval, drift),
    )


def _explain_missing(
    n: int, effective: int, interval: Interval | None, drift: Drift | None
) -> dict[str, str]:
    needs = {"median": 1, "mean": 1, "minimum": 1, "maximum": 1, "std": 2, "p95": P95_MINIMUM}
    missing = {
        name: f"needs at least {least} repeats, there are {n}"
        for name, least in needs.items()
        if n < least
    }
    if interval is None:
        reason = _explain_no_interval(n, effective) if drift is None else _explain_drift(drift)
        missing |= dict.fromkeys(("low", "high", "confidence"), reason)
    return missing


def _explain_no_interval(n: int, effective: int) -> str:
    if n < LEAST_REPEATS:
        return f"an interval of the median needs at least {LEAST_REPEATS} repeats, there are {n}"
    return (
        f"successive repeats depend on each other: {n} of them have an effective sample size of "
        f"{effective}, too few for an interval of the median"
    )


def _explain_drift(drift: Drift) -> str:
    return (
        f"the level {describe_drift(drift)}, and may leave any interval of the median: warm up "
        "longer or take more repeats"
    )


def describe_interval(summary: Summary) -> str:
    """How the bounds were computed, as the source of the readings that carry them."""
    if summary.confidence is None:
        return summary.missing["low"]
    return (
        f"order statistics of {summary.n} repeats, effective sample size {summary.effective_n}, "
        f"confidence {summary.confidence:.1%} for this process in this stretch of time"
    )
