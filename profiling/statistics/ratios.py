"""Two sets of repeats compared: ratio of medians, ratio of pairs, probability of superiority."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from profiling.statistics.autocorrelation import rank_values
from profiling.statistics.intervals import Interval
from profiling.statistics.medians import bound_median


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One median over another; no bounds where a side has no interval."""

    value: float
    low: float | None
    high: float | None
    confidence: float | None


def compare_speed(baseline_s: Sequence[float], candidate_s: Sequence[float]) -> Ratio:
    """Speed-up of the candidate: the baseline's median over the candidate's."""
    return divide_medians(
        median(baseline_s), bound_median(baseline_s), median(candidate_s), bound_median(candidate_s)
    )


def divide_medians(
    over: float, above: Interval | None, under: float, below: Interval | None
) -> Ratio:
    """One median over another, with the interval of each.

    Both intervals are joined on the log scale (square-and-add), where exchanging the sides
    only changes the sign: the speed-up of A over B is exactly one over that of B over A.
    """
    value = over / under
    if above is None or below is None:
        return Ratio(value=value, low=None, high=None, confidence=None)
    down_a, up_a = _log_reach(over, above)
    down_b, up_b = _log_reach(under, below)
    return Ratio(
        value=value,
        low=value * math.exp(-math.hypot(down_a, up_b)),
        high=value * math.exp(math.hypot(up_a, down_b)),
        confidence=min(above.confidence, below.confidence),
    )


def _log_reach(centre: float, interval: Interval) -> tuple[float, float]:
    return math.log(centre / interval.low), math.log(interval.high / centre)


def compare_pairs(baseline_s: Sequence[float], candidate_s: Sequence[float]) -> Ratio:
    """Speed-up from interleaved repeats: drift of the machine changes both sides of a pair."""
    logs = [math.log(b / c) for b, c in zip(baseline_s, candidate_s, strict=True)]
    interval = bound_median(logs)
    return Ratio(
        value=math.exp(median(logs)),
        low=math.exp(interval.low) if interval else None,
        high=math.exp(interval.high) if interval else None,
        confidence=interval.confidence if interval else None,
    )


def find_superiority(baseline_s: Sequence[float], candidate_s: Sequence[float]) -> float:
    """Probability that a random candidate repeat is faster than a random baseline one.

    Ties count half; 0.5 means that neither is faster.
    """
    ranks = rank_values([*baseline_s, *candidate_s])
    size_b, size_c = len(baseline_s), len(candidate_s)
    wins = sum(ranks[:size_b]) - size_b * (size_b + 1) / 2
    return wins / (size_b * size_c)
