"""The autocorrelation of successive repeats, and their effective sample size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, variance

LARGEST_AUTOCORRELATION = 0.99
SHORTEST_SERIES = 5
# Fewer blocks than these do not show how much their means vary.
LEAST_BLOCKS = 4


def count_effective(values: Sequence[float]) -> int:
    """The effective sample size in whole values, at least one."""
    return max(1, math.floor(estimate_effective(values) + 1e-9))


def estimate_effective(values: Sequence[float]) -> float:
    """The effective sample size: so many independent values would say as much.

    The smaller one of two estimates. The autocorrelation of neighbours shows in short series; the
    means of longer and longer blocks show slow changes that quick noise hides from neighbours.
    An underestimated dependence makes intervals too narrow, so both are raised by about one
    standard error.
    """
    size = len(values)
    if len(set(values)) < 2 or size < SHORTEST_SERIES:
        return float(size)
    ranks = rank_values(values)
    return size / max(_inflate_by_neighbours(ranks), _inflate_by_blocks(ranks))


def _inflate_by_neighbours(ranks: Sequence[float]) -> float:
    """By how much the variance of the mean grows in a first-order autoregression."""
    error = 1 / math.sqrt(len(ranks) - 4)
    raised = estimate_autocorrelation(ranks) + error
    correlation = min(LARGEST_AUTOCORRELATION, max(0.0, raised))
    return (1 + correlation) / (1 - correlation)


def _inflate_by_blocks(ranks: Sequence[float]) -> float:
    """By how much the variance of the mean grows, from the means of blocks of 2, 4, 8, ...

    Means of blocks of independent values vary as much less as a block is long; the block length
    at which they vary most, relative to that, shows the dependence (Flyvbjerg and Petersen, 1989).
    """
    spread, largest, length = variance(ranks), 1.0, 2
    while (blocks := len(ranks) // length) >= LEAST_BLOCKS:
        first = len(ranks) - blocks * length
        means = [fmean(ranks[i : i + length]) for i in range(first, len(ranks), length)]
        inflation = length * variance(means) / spread
        largest = max(largest, inflation * (1 + 1 / math.sqrt(blocks)))
        length *= 2
    return largest


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
