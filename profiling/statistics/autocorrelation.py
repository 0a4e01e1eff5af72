"""The autocorrelation of successive repeats, and their effective sample size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

CAUTION = 3.0
LARGEST_AUTOCORRELATION = 0.99
SHORTEST_SERIES = 5


def count_effective(values: Sequence[float]) -> int:
    """The effective sample size: as many independent values say as much, at most their number.

    The autocorrelation is uncertain, more so in short series, and an underestimate makes
    intervals too narrow: it is raised in proportion to that uncertainty.
    """
    size = len(values)
    correlation = max(0.0, estimate_autocorrelation(values))
    cautious = min(LARGEST_AUTOCORRELATION, correlation * (1 + CAUTION / math.sqrt(max(size, 1))))
    return max(1, math.floor(size * share_independent(cautious) + 1e-9))


def share_independent(correlation: float) -> float:
    """Effective values a value, in a first-order autoregression with that correlation."""
    return (1 - correlation) / (1 + correlation)


def estimate_autocorrelation(values: Sequence[float]) -> float:
    """The lag-one correlation freed from its bias towards negative in short series.

    To first order the mean of the raw correlation r is r - (1 + 4 r) / n (Kendall, 1954).
    """
    size = len(values)
    if size < SHORTEST_SERIES:
        return 0.0
    return (correlate_ranks(values) * size + 1) / (size - 4)


def correlate_ranks(values: Sequence[float]) -> float:
    """Lag-one correlation of the ranks, which a single outlier hardly changes."""
    ranks = rank_values(values)
    centre = fmean(ranks)
    spread = sum((rank - centre) ** 2 for rank in ranks)
    shared = sum((a - centre) * (b - centre) for a, b in pairwise(ranks))
    return shared / spread if spread else 0.0


def rank_values(values: Sequence[float]) -> list[float]:
    """1-based ranks in the order of the values; equal values share their mean rank."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and values[order[stop]] == values[order[start]]:
            stop += 1
        for place in order[start:stop]:
            ranks[place] = (start + 1 + stop) / 2
        start = stop
    return ranks
