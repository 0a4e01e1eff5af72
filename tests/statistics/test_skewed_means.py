"""Intervals of the mean of skewed values cover it more often than Student's t."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from profiling.statistics.means import estimate_mean
from profiling.statistics.skewed_means import LEAST_SAMPLES, bound_mean

TRIALS = 1000
Draw = Callable[[random.Random], float]
SHAPES: dict[str, tuple[Draw, float, float]] = {
    "normal": (lambda draw: draw.gauss(2, 1), 2.0, 0.93),
    "exponential": (lambda draw: draw.expovariate(1), 1.0, 0.92),
    "lognormal": (lambda draw: draw.lognormvariate(0, 1), math.exp(0.5), 0.89),
    "sparse": (lambda draw: float(draw.random() < 0.2), 0.2, 0.93),
}


@pytest.mark.parametrize("size", [LEAST_SAMPLES, 60])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_mean_is_covered(shape: str, size: int) -> None:
    value, mean, least = SHAPES[shape]
    draw, held, known = random.Random(size), 0, 0
    for _ in range(TRIALS):
        bounds = bound_mean([value(draw) for _ in range(size)])
        known += bounds is not None
        held += bounds is not None and bounds.holds(mean)
    assert known > 0.97 * TRIALS
    assert held / known >= least


def test_skewed_values_are_covered_better_than_by_students_t() -> None:
    draw, mine, plain = random.Random(3), 0, 0
    for _ in range(TRIALS):
        values = [draw.lognormvariate(0, 1.5) for _ in range(LEAST_SAMPLES)]
        bounds = bound_mean(values)
        assert bounds is not None
        mine += bounds.holds(math.exp(1.125))
        plain += estimate_mean(values).interval.holds(math.exp(1.125))
    assert mine / TRIALS >= plain / TRIALS + 0.08


def test_eight_values_are_too_few() -> None:
    assert bound_mean([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 80.0]) is None


def test_equal_values_have_no_interval() -> None:
    assert bound_mean([0.5] * 100) is None
