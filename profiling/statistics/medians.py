"""The median of repeats: distribution-free intervals and quantiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from profiling.statistics.autocorrelation import estimate_effective
from profiling.statistics.intervals import CONFIDENCE, Interval

# What reaches less says too little to be called an interval.
LEAST_CONFIDENCE = 0.8


@cache
def choose_ranks(size: int, confidence: float = CONFIDENCE) -> tuple[int, int, float] | None:
    """1-based ranks of the order statistics that enclose the median, and their exact confidence.

    The number of independent values below the median is Binomial(size, 1/2) whatever the
    distribution. None where even the smallest and the largest value are not enough (size < 6
    for 95%).
    """
    outside = 0.0
    chosen = None
    for below in range(size // 2):
        outside += 2 * math.comb(size, below) / 2**size
        if 1 - outside < confidence:
            break
        chosen = (below + 1, size - below, 1 - outside)
    return chosen


def bound_median(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The distribution-free interval of the median, widened for dependent values.

    The ranks are those of an independent sample of the effective size, placed at the same
    shares of the sorted sample. None where there are too few values, however independent, or
    where their dependence leaves too little confidence even for the whole range.
    """
    if choose_ranks(len(values), confidence) is None:
        return None
    effective = estimate_effective(values)
    whole = math.floor(effective + 1e-9)
    ranks = choose_ranks(whole, confidence)
    if ranks is None:
        return _take_range(values, effective)
    ordered = sorted(values)
    lower, upper, reached = ranks
    stretch = (len(ordered) + 1) / (whole + 1)
    low, high = _value_at(ordered, lower * stretch), _value_at(ordered, upper * stretch)
    return Interval(low=low, high=high, confidence=reached)


def _take_range(values: Sequence[float], effective: float) -> Interval | None:
    """The widest interval there is, with the confidence that it reaches, often less than asked."""
    reached = 1 - 2 ** (1 - effective)
    if reached < LEAST_CONFIDENCE:
        return None
    return Interval(low=min(values), high=max(values), confidence=reached)


def _value_at(ordered: Sequence[float], rank: float) -> float:
    """The value at a 1-based rank, linear between neighbours and never beyond them."""
    position = min(max(rank - 1, 0.0), len(ordered) - 1.0)
    below = math.floor(position)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    return min(high, low + (high - low) * (position - below))


def take_quantile(values: Sequence[float], share: float) -> float:
    """The quantile by linear interpolation between order statistics (numpy's default)."""
    ordered = sorted(values)
    return _value_at(ordered, share * (len(ordered) - 1) + 1)
