"""The mean of values whose distribution may be skewed, such as likelihoods of references."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from profiling.statistics.intervals import CONFIDENCE, Interval
from profiling.statistics.student import student_quantile

# With fewer, neither spread nor skewness is known well enough, whatever the method.
LEAST_SAMPLES = 20
# Relative to the values: a smaller spread is that of their last digits.
_ROUNDING = 1e-9


def bound_mean(values: Sequence[float]) -> Interval | None:
    """The interval of the mean, corrected for skewness; None for too few values or equal ones.

    Hall, "On the removal of skewness by transformation", J. R. Stat. Soc. B 54 (1992): a cubic of
    Student's t that frees it from the skewness of the values. Student's t alone misses the mean
    of skewed values far more often than it says, nearly always on one side.
    """
    n = len(values)
    if n < LEAST_SAMPLES:
        return None
    mean, spread = fmean(values), stdev(values)
    if spread <= _ROUNDING * max(map(abs, values)):
        return None
    bend = fmean(((value - mean) / spread) ** 3 for value in values) / (3 * math.sqrt(n))
    reach = student_quantile((1 + CONFIDENCE) / 2, n - 1)
    error = spread / math.sqrt(n)
    return Interval(
        low=mean - _straighten(reach, bend) * error,
        high=mean - _straighten(-reach, bend) * error,
        confidence=CONFIDENCE,
    )


def bound_ratio(tops: Sequence[float], bottoms: Sequence[float]) -> Interval | None:
    """The interval of sum(tops) / sum(bottoms) where the pairs, not their parts, were drawn.

    To first order the ratio is a mean over the pairs: of itself and by how much each pair strays
    from it. None where `bound_mean` has no interval of that.
    """
    ratio, usual = math.fsum(tops) / math.fsum(bottoms), fmean(bottoms)
    return bound_mean(
        [ratio + (top - ratio * bottom) / usual for top, bottom in zip(tops, bottoms, strict=True)]
    )


def bound_change(changes: Sequence[float]) -> Interval | None:
    """The interval of the mean change of samples, many of which may not change at all.

    The few that do change show neither how often others change in the opposite direction nor how
    skewed changes are. Where some do not change, the interval also holds that of Student's t with
    one change more, half of it in each direction (Agresti and Min, Stat. Med. 24 (2005)).
    """
    found = bound_mean(changes)
    moved = [change for change in changes if change]
    if found is None or len(moved) == len(changes):
        return found
    n = len(changes)
    squares = math.fsum(change**2 for change in moved)
    mean = math.fsum(moved) / (n + 2)
    spread = math.sqrt((squares + squares / len(moved)) / (n + 2) - mean**2)
    reach = student_quantile((1 + CONFIDENCE) / 2, n - 1) * spread / math.sqrt(n + 2)
    low, high = min(found.low, mean - reach), max(found.high, mean + reach)
    return Interval(low=low, high=high, confidence=CONFIDENCE)


def _straighten(quantile: float, bend: float) -> float:
    """The t whose cubic is the quantile."""
    if abs(bend) < 1e-9:
        return quantile
    inner = 1 + 3 * bend * (quantile - bend / 2)
    return (math.copysign(abs(inner) ** (1 / 3), inner) - 1) / bend
