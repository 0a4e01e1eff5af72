"""Student's t distribution."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist


@cache
def student_quantile(share: float, freedom: float) -> float:
    """Quantile of Student's t, share > 1/2, by bisection of its distribution function."""
    low, high = 0.0, NormalDist().inv_cdf(share) + 1
    while student_cdf(high, freedom) < share:
        high *= 2
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def student_cdf(t: float, freedom: float) -> float:
    """P(T <= t) for t >= 0: with t = sqrt(freedom) * tan(angle) the density is a power of cos."""
    steps = 400
    width = math.atan(t / math.sqrt(freedom)) / steps
    heights = [math.pow(math.cos(width * step), freedom - 1) for step in range(steps + 1)]
    simpson = heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2])
    scale_log = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    return 0.5 + math.exp(scale_log) / math.sqrt(math.pi) * simpson * width / 3
