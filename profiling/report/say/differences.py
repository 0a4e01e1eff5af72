"""Say whether two sets of repeats differ, by how much, and what could not have been seen."""

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
# Beyond this a short series says more about its own luck than about the machine.
MOST_ALIKE = 0.7
# How much a rank test gets out of normal values, of what the mean gets out of them.
RANK_EFFICIENCY = 3 / math.pi


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What `after` is beside `before`; `change` is relative: 0.05 is five hundredths more."""

    pairs: int
    before: float
    after: float
    change: float
    bounds: Interval | None
    p_value: float
    superiority: float
    detectable: float | None

    @property
    def is_called(self) -> bool:
        return self.p_value < SIGNIFICANCE


def pair_repeats(
    before: Sequence[Repeat], after: Sequence[Repeat]
) -> tuple[list[float], list[float]]:
    """The values of each batch, its first turn with its first: both had the same samples."""
    mine, its = _take_turns(before), _take_turns(after)
    shared = [turn for turn in mine if turn in its]
    return [mine[turn] for turn in shared], [its[turn] for turn in shared]


def _take_turns(repeats: Sequence[Repeat]) -> dict[tuple[int, int], float]:
    """Values by batch and how often that batch had its turn before, in the order of time."""
    seen: Counter[int] = Counter()
    turns = {}
    for repeat in sorted(repeats, key=lambda repeat: repeat.repeat):
        turns[repeat.batch, seen[repeat.batch]] = repeat.value
        seen[repeat.batch] += 1
    return turns


def compare_repeats(before: Sequence[float], after: Sequence[float]) -> Difference:
    """Paired, and on the log scale, where slower and faster by one factor are equally far.

    Wilcoxon's signed ranks with the interval that belongs to them (Hodges and Lehmann) where
    pairs are independent; the mean, its error widened, where successive pairs are alike: with
    ten pairs the ranks of so few independent ones could not show anything.
    """
    logs = thin([math.log(b / a) for a, b in zip(before, after, strict=True)])
    widening = measure_widening(logs)
    bounds = bound_shift(logs) if widening == 1 else _bound_mean(logs, widening)
    return Difference(
        pairs=len(before),
        before=median(before),
        after=median(after),
        change=math.expm1(median(walk_means(logs)) if widening == 1 else fmean(logs)),
        bounds=None if bounds is None else _as_change(bounds),
        p_value=rank_signed(logs) if widening == 1 else _weigh_mean(logs, widening),
        superiority=find_superiority(before, after),
        detectable=None if bounds is None else _find_detectable(logs, widening),
    )


def _as_change(logs: Interval) -> Interval:
    low, high = math.expm1(logs.low), math.expm1(logs.high)
    return Interval(low=low, high=high, confidence=logs.confidence)


def thin(values: Sequence[float]) -> list[float]:
    """Medians of equal stretches, where there are more values than a walk over all pairs bears."""
    stretch = math.ceil(len(values) / MOST_PAIRS)
    if stretch <= 1:
        return list(values)
    return [median(values[i : i + stretch]) for i in range(0, len(values), stretch)]


def measure_widening(values: Sequence[float]) -> float:
    """By how much the error of a mean grows because successive values are alike; 1 if not."""
    if len(set(values)) < 2:
        return 1.0
    alike = min(MOST_ALIKE, max(0.0, estimate_autocorrelation(values)))
    return math.sqrt((1 + alike) / (1 - alike))


# --- alike pairs ---------------------------------------------------------------------------------


def _error_of_mean(logs: Sequence[float], widening: float) -> float:
    return widening * stdev(logs) / math.sqrt(len(logs))


def _bound_mean(logs: Sequence[float], widening: float) -> Interval:
    quantile = student_quantile((1 + CONFIDENCE) / 2, len(logs) - 1)
    reach = quantile * _error_of_mean(logs, widening)
    return Interval(low=fmean(logs) - reach, high=fmean(logs) + reach, confidence=CONFIDENCE)


def _weigh_mean(logs: Sequence[float], widening: float) -> float:
    t = abs(fmean(logs)) / _error_of_mean(logs, widening)
    return max(0.0, 2 * (1 - student_cdf(t, len(logs) - 1)))


def _find_detectable(logs: Sequence[float], widening: float) -> float:
    """The smallest relative change that such pairs show four times in five."""
    freedom = len(logs) - 1
    reach = student_quantile((1 + CONFIDENCE) / 2, freedom) + student_quantile(POWER, freedom)
    efficiency = RANK_EFFICIENCY if widening == 1 else 1.0
    return math.expm1(reach * _error_of_mean(logs, widening) / math.sqrt(efficiency))


# --- signed ranks --------------------------------------------------------------------------------


def walk_means(values: Sequence[float]) -> list[float]:
    """The means of all pairs, each value with itself too, in order."""
    return sorted(
        (values[i] + values[j]) / 2 for i in range(len(values)) for j in range(i, len(values))
    )


def bound_shift(values: Sequence[float]) -> Interval | None:
    """The shifts that the signed-rank test would not refuse; None below six values."""
    rank = _critical_rank(len(values))
    if rank == 0:
        return None
    means = walk_means(values)
    return Interval(low=means[rank - 1], high=means[-rank], confidence=CONFIDENCE)


def _critical_rank(size: int) -> int:
    """Which mean, counted from either end, is the bound; 0 where there is none."""
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
    """In how many ways signs give each sum of positive ranks."""
    counts = [1]
    for rank in range(1, size + 1):
        longer = counts + [0] * rank
        for total, ways in enumerate(counts):
            longer[total + rank] += ways
        counts = longer
    return tuple(counts)


def rank_signed(values: Sequence[float]) -> float:
    """Two-sided p-value of no shift; values of exactly zero say nothing and are left out."""
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


# --- scores of samples ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ScoreDifference:
    """A difference of means over the same samples, in the score's own unit."""

    samples: int
    change: float
    bounds: Interval
    better: int
    worse: int
    p_value: float

    @property
    def is_called(self) -> bool:
        return self.p_value < SIGNIFICANCE


def compare_errors(
    before: Mapping[str, float], after: Mapping[str, float]
) -> ScoreDifference | None:
    """Errors of the samples that both runs have; None where there are fewer than two.

    The p-value is the sign test's: of the samples whose error changed, are as many worse as
    better? It asks nothing of how errors are distributed, and many changes are exactly zero.
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
        p_value=weigh_signs(better, worse),
    )


def weigh_signs(better: int, worse: int) -> float:
    """Two-sided p-value of as many samples better as worse."""
    moved = better + worse
    tail = sum(math.comb(moved, k) for k in range(min(better, worse) + 1)) / 2**moved
    return min(1.0, 2 * tail)
