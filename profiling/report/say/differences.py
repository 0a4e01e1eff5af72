"""Differences between two runs: size, interval, p-value, and the smallest detectable one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist, fmean, median, stdev

from profiling.report.read.readings import Repeat
from profiling.statistics.autocorrelation import estimate_autocorrelation, rank_values
from profiling.statistics.intervals import CONFIDENCE, Interval
from profiling.statistics.means import estimate_mean
from profiling.statistics.ratios import find_superiority
from profiling.statistics.student import student_cdf, student_quantile

SIGNIFICANCE = 1 - CONFIDENCE
POWER = 0.8
LARGEST_EXACT = 50
MOST_PAIRS = 400
# An estimate from a short series is too uncertain to be believed beyond this.
MOST_AUTOCORRELATION = 0.7
# Asymptotic efficiency of the signed-rank test against the mean, for normal values.
RANK_EFFICIENCY = 3 / math.pi


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The change from `before` to `after`; it is relative, so 0.05 is 5% more."""

    pairs: int
    before: float
    after: float
    change: float
    bounds: Interval | None
    p_value: float
    superiority: float
    detectable: float | None

    @property
    def is_significant(self) -> bool:
        return self.p_value < SIGNIFICANCE


def pair_repeats(
    before: Sequence[Repeat], after: Sequence[Repeat]
) -> tuple[list[float], list[float]]:
    """Values paired by batch, and for a batch by the order of its repeats."""
    mine, its = _number_repeats(before), _number_repeats(after)
    shared = [place for place in mine if place in its]
    return [mine[place] for place in shared], [its[place] for place in shared]


def _number_repeats(repeats: Sequence[Repeat]) -> dict[tuple[int, int], float]:
    """Values by batch and by the number of earlier repeats of that batch, in the order of time."""
    seen: Counter[int] = Counter()
    numbered = {}
    for repeat in sorted(repeats, key=lambda repeat: repeat.repeat):
        numbered[repeat.batch, seen[repeat.batch]] = repeat.value
        seen[repeat.batch] += 1
    return numbered


def compare_repeats(before: Sequence[float], after: Sequence[float]) -> Difference:
    """The paired difference, on the log scale, where a factor and its inverse are equally far.

    Independent pairs: Wilcoxon's signed-rank test with the Hodges-Lehmann interval. Autocorrelated
    pairs: the mean with a widened standard error, because the ranks of the few independent pairs
    among ten would detect nothing.
    """
    logs = thin_out([math.log(b / a) for a, b in zip(before, after, strict=True)])
    widening = measure_widening(logs)
    bounds = bound_shift(logs) if widening == 1 else _bound_mean(logs, widening)
    return Difference(
        pairs=len(before),
        before=median(before),
        after=median(after),
        change=math.expm1(median(mean_pairs(logs)) if widening == 1 else fmean(logs)),
        bounds=None if bounds is None else _as_change(bounds),
        p_value=signed_rank_p(logs) if widening == 1 else _t_test_p(logs, widening),
        superiority=find_superiority(before, after),
        detectable=None if bounds is None else _find_detectable(logs, widening),
    )


def _as_change(logs: Interval) -> Interval:
    low, high = math.expm1(logs.low), math.expm1(logs.high)
    return Interval(low=low, high=high, confidence=logs.confidence)


def thin_out(values: Sequence[float]) -> list[float]:
    """Medians of equal stretches, where there are too many values for all pairs of them."""
    stretch = math.ceil(len(values) / MOST_PAIRS)
    if stretch <= 1:
        return list(values)
    return [median(values[i : i + stretch]) for i in range(0, len(values), stretch)]


def measure_widening(values: Sequence[float]) -> float:
    """The factor by which autocorrelation widens the standard error of a mean; 1 without it."""
    if len(set(values)) < 2:
        return 1.0
    correlation = min(MOST_AUTOCORRELATION, max(0.0, estimate_autocorrelation(values)))
    return math.sqrt((1 + correlation) / (1 - correlation))


# Autocorrelated pairs


def _error_of_mean(logs: Sequence[float], widening: float) -> float:
    return widening * stdev(logs) / math.sqrt(len(logs))


def _bound_mean(logs: Sequence[float], widening: float) -> Interval:
    quantile = student_quantile((1 + CONFIDENCE) / 2, len(logs) - 1)
    reach = quantile * _error_of_mean(logs, widening)
    return Interval(low=fmean(logs) - reach, high=fmean(logs) + reach, confidence=CONFIDENCE)


def _t_test_p(logs: Sequence[float], widening: float) -> float:
    t = abs(fmean(logs)) / _error_of_mean(logs, widening)
    return max(0.0, 2 * (1 - student_cdf(t, len(logs) - 1)))


def _find_detectable(logs: Sequence[float], widening: float) -> float:
    """The smallest relative change that such pairs detect with a power of 0.8."""
    freedom = len(logs) - 1
    reach = student_quantile((1 + CONFIDENCE) / 2, freedom) + student_quantile(POWER, freedom)
    efficiency = RANK_EFFICIENCY if widening == 1 else 1.0
    return math.expm1(reach * _error_of_mean(logs, widening) / math.sqrt(efficiency))


# Signed ranks


def mean_pairs(values: Sequence[float]) -> list[float]:
    """The means of all pairs, each value also with itself, in ascending order."""
    return sorted(
        (values[i] + values[j]) / 2 for i in range(len(values)) for j in range(i, len(values))
    )


def bound_shift(values: Sequence[float]) -> Interval | None:
    """The shifts that the signed-rank test does not reject; None below six values."""
    rank = _critical_rank(len(values))
    if rank == 0:
        return None
    means = mean_pairs(values)
    return Interval(low=means[rank - 1], high=means[-rank], confidence=CONFIDENCE)


def _critical_rank(size: int) -> int:
    """The rank of the mean that is the bound, counted from either end; 0 where there is none."""
    if size <= LARGEST_EXACT:
        ways, allowed, rank = 0, SIGNIFICANCE / 2 * 2**size, 0
        while (ways := ways + count_rank_sums(size)[rank]) <= allowed:
            rank += 1
        return rank
    quantile = NormalDist().inv_cdf(1 - SIGNIFICANCE / 2)
    return math.floor(size * (size + 1) / 4 - quantile * _spread_of_ranks(size))


def _spread_of_ranks(size: int) -> float:
    return math.sqrt(size * (size + 1) * (2 * size + 1) / 24)


@cache
def count_rank_sums(size: int) -> tuple[int, ...]:
    """The number of ways in which signs give each sum of positive ranks."""
    counts = [1]
    for rank in range(1, size + 1):
        longer = counts + [0] * rank
        for total, ways in enumerate(counts):
            longer[total + rank] += ways
        counts = longer
    return tuple(counts)


def signed_rank_p(values: Sequence[float]) -> float:
    """Two-sided p-value of no shift; zeros are left out."""
    moved = [value for value in values if value]
    if not moved:
        return 1.0
    ranks = rank_values([abs(value) for value in moved])
    positive = sum(rank for rank, value in zip(ranks, moved, strict=True) if value > 0)
    size = len(moved)
    smaller = min(positive, size * (size + 1) / 2 - positive)
    if size <= LARGEST_EXACT:
        tail = sum(count_rank_sums(size)[: math.floor(smaller) + 1]) / 2**size
    else:
        tail = NormalDist().cdf((smaller + 0.5 - size * (size + 1) / 4) / _spread_of_ranks(size))
    return min(1.0, 2 * tail)


# Scores of samples


@dataclass(frozen=True, kw_only=True)
class ScoreDifference:
    """A difference of means over the same samples, in the unit of the score."""

    samples: int
    change: float
    bounds: Interval
    better: int
    worse: int
    p_value: float

    @property
    def is_significant(self) -> bool:
        return self.p_value < SIGNIFICANCE


def compare_errors(
    before: Mapping[str, float], after: Mapping[str, float]
) -> ScoreDifference | None:
    """The errors of the samples that both runs have; None where there are fewer than two.

    The p-value is that of the sign test over the samples whose error changed: it assumes no
    distribution, and many changes are exactly zero.
    """
    shared = sorted(before.keys() & after.keys())
    changes = [after[sample] - before[sample] for sample in shared]
    if len(changes) < 2:
        return None
    worse = sum(change > 0 for change in changes)
    better = sum(change < 0 for change in changes)
    return ScoreDifference(
        samples=len(changes),
        change=fmean(changes),
        bounds=estimate_mean(changes).interval,
        better=better,
        worse=worse,
        p_value=sign_test_p(better, worse),
    )


def sign_test_p(better: int, worse: int) -> float:
    """Two-sided p-value of as many samples better as worse."""
    moved = better + worse
    tail = sum(math.comb(moved, k) for k in range(min(better, worse) + 1)) / 2**moved
    return min(1.0, 2 * tail)
