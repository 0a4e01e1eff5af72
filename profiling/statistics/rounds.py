"""Runs that were repeated in rounds, compared with one number for each round.

Repeats within a run share whatever the run was given: the state of the machine, the layout of
memory. They say nothing about the next run, so a run counts once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist, fmean, median, stdev, variance

from profiling.statistics.intervals import CONFIDENCE, Interval
from profiling.statistics.student import student_quantile

# With fewer, the variation from run to run is hardly known.
LEAST_ROUNDS = 3
POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class RoundsChange:
    """The mean log of after over before, with the error that the rounds show."""

    log: float
    standard_error: float
    freedom: float
    rounds: int
    are_matched: bool

    @property
    def ratio(self) -> float:
        return math.exp(self.log)

    @property
    def interval(self) -> Interval | None:
        """Of the ratio, by Student's t; None where the rounds do not vary at all."""
        if self.standard_error == 0:
            return None
        reach = student_quantile((1 + CONFIDENCE) / 2, self.freedom) * self.standard_error
        low, high = math.exp(self.log - reach), math.exp(self.log + reach)
        return Interval(low=low, high=high, confidence=CONFIDENCE)

    @property
    def detectable(self) -> float:
        """The smallest relative change that such rounds show four times in five."""
        return math.expm1(find_shift(self.freedom) * self.standard_error)


def compare_matched(before: Sequence[float], after: Sequence[float]) -> RoundsChange:
    """Rounds that alternated: what a round has in common cancels; one less freedom than rounds."""
    logs = [math.log(b / a) for a, b in zip(before, after, strict=True)]
    return RoundsChange(
        log=fmean(logs),
        standard_error=drop_rounding(stdev(logs) / math.sqrt(len(logs))),
        freedom=len(logs) - 1,
        rounds=len(logs),
        are_matched=True,
    )


def compare_unmatched(before: Sequence[float], after: Sequence[float]) -> RoundsChange:
    """Rounds that have no partner on the other side: Welch's t, whose spreads may differ."""
    sides = [[math.log(value) for value in side] for side in (before, after)]
    parts = [variance(logs) / len(logs) for logs in sides]
    error = drop_rounding(math.sqrt(sum(parts)))
    shares = [part**2 / (len(logs) - 1) for part, logs in zip(parts, sides, strict=True)]
    return RoundsChange(
        log=fmean(sides[1]) - fmean(sides[0]),
        standard_error=error,
        freedom=sum(parts) ** 2 / sum(shares) if error else min(map(len, sides)) - 1,
        rounds=min(map(len, sides)),
        are_matched=False,
    )


def bound_rounds(values: Sequence[float]) -> Interval | None:
    """The interval of the mean over rounds, by Student's t on the log scale.

    None for fewer than `LEAST_ROUNDS`, and where they do not vary. It is widened to hold the median
    of the rounds, beside which it is shown.
    """
    if len(values) < LEAST_ROUNDS or min(values) <= 0:
        return None
    logs = [math.log(value) for value in values]
    error = drop_rounding(stdev(logs) / math.sqrt(len(logs)))
    if error == 0:
        return None
    reach = student_quantile((1 + CONFIDENCE) / 2, len(logs) - 1) * error
    ends = math.exp(fmean(logs) - reach), math.exp(fmean(logs) + reach)
    middle = median(values)
    return Interval(low=min(ends[0], middle), high=max(ends[1], middle), confidence=CONFIDENCE)


def drop_rounding(error: float) -> float:
    """No error for values that do not vary; their logs may leave some rounding."""
    return error if error > 1e-12 else 0.0


# What such rounds can show


@cache
def find_shift(freedom: float) -> float:
    """How many estimated standard errors a shift must have to be shown with a power of 0.8.

    The estimate of the error is corrected so that it is too small as often as too large.
    """
    low, high = 0.0, 2.0
    while find_power(high, freedom) < POWER:
        high *= 2
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if find_power(middle, freedom) < POWER else (low, middle)
    return high / _find_median_spread(freedom)


def find_power(shift: float, freedom: float) -> float:
    """How often Student's t shows a shift, given in true standard errors (noncentral t)."""
    limit, normal = student_quantile((1 + CONFIDENCE) / 2, freedom), NormalDist()
    return math.fsum(
        weight * (normal.cdf(shift - limit * spread) + normal.cdf(-shift - limit * spread))
        for spread, weight in _list_spreads(freedom)
    )


@cache
def _list_spreads(freedom: float) -> tuple[tuple[float, float], ...]:
    """Values of the estimated over the true standard error, with their probabilities."""
    steps, most = 400, 1 + 8 / math.sqrt(2 * freedom)
    scale = math.log(2) + freedom / 2 * math.log(freedom / 2) - math.lgamma(freedom / 2)
    places = [most * (step + 0.5) / steps for step in range(steps)]
    logs = [scale + (freedom - 1) * math.log(u) - freedom * u * u / 2 for u in places]
    return tuple((u, math.exp(log) * most / steps) for u, log in zip(places, logs, strict=True))


def _find_median_spread(freedom: float) -> float:
    """The estimated over the true standard error in half of all cases at most."""
    below = 0.0
    for spread, weight in _list_spreads(freedom):
        below += weight
        if below >= 0.5:
            return spread
    raise AssertionError("the probabilities add up to one")
