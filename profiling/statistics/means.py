"""Means of independent values with their errors and intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist, fmean, stdev

from profiling.statistics.intervals import CONFIDENCE, Interval
from profiling.statistics.student import student_quantile


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its standard error and the degrees of freedom behind that error."""

    value: float
    standard_error: float
    freedom: float

    @cached_property
    def interval(self) -> Interval:
        reach = student_quantile((1 + CONFIDENCE) / 2, self.freedom) * self.standard_error
        return Interval(low=self.value - reach, high=self.value + reach, confidence=CONFIDENCE)


def estimate_mean(values: Sequence[float]) -> Estimate:
    """The mean of at least two independent values, such as the joules of separate windows."""
    n = len(values)
    return Estimate(value=fmean(values), standard_error=stdev(values) / math.sqrt(n), freedom=n - 1)


def bound_share(total: float, n: int) -> Interval:
    """Wilson's interval of the mean of n scores between 0 and 1 that add up to total.

    Exact hits and misses have the largest spread there is, so that graded scores are bounded
    on the safe side; unlike a normal interval it is not empty where every score is the same.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = total / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return Interval(
        low=max(0.0, centre - reach), high=min(1.0, centre + reach), confidence=CONFIDENCE
    )


def subtract(minuend: Estimate, subtrahend: Estimate) -> Estimate:
    """The difference of two independent estimates."""
    return _combine(minuend.value - subtrahend.value, (minuend, 1.0), (subtrahend, -1.0))


def scale(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(
        value=estimate.value * factor,
        standard_error=estimate.standard_error * abs(factor),
        freedom=estimate.freedom,
    )


def _combine(value: float, *parts: tuple[Estimate, float]) -> Estimate:
    """First-order propagation; freedom after Welch and Satterthwaite."""
    variances = [(slope * part.standard_error) ** 2 for part, slope in parts]
    total = sum(variances)
    shares = sum(v**2 / part.freedom for v, (part, _) in zip(variances, parts, strict=True))
    freedom = total**2 / shares if shares else min(part.freedom for part, _ in parts)
    return Estimate(value=value, standard_error=math.sqrt(total), freedom=freedom)
