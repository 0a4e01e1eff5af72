"""Intervals of the mean of skewed values cover it more often than Student's t."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import product

import pytest

from profiling.statistics.means import estimate_mean
from profiling.statistics.skewed_means import (
    LEAST_SAMPLES,
    bound_change,
    bound_mean,
    bound_ratio,
)
from tests.marking import slow_except

TRIALS = 1000
Draw = Callable[[random.Random], float]
SHAPES: dict[str, tuple[Draw, float, float]] = {
    "normal": (lambda draw: draw.gauss(2, 1), 2.0, 0.93),
    "exponential": (lambda draw: draw.expovariate(1), 1.0, 0.92),
    "lognormal": (lambda draw: draw.lognormvariate(0, 1), math.exp(0.5), 0.89),
    "sparse": (lambda draw: float(draw.random() < 0.2), 0.2, 0.93),
}


@pytest.mark.parametrize(
    ("shape", "size"),
    slow_except(
        product(SHAPES, [LEAST_SAMPLES, 60]),
        *(("normal", 60), ("exponential", LEAST_SAMPLES)),
        *(("lognormal", LEAST_SAMPLES), ("sparse", 60)),
    ),
)
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


# Rates


def draw_rate(draw: random.Random, size: int, share: float) -> tuple[list[int], list[int]]:
    """Words of samples of which some are wrong throughout, and the words of all."""
    words = [draw.randint(1, 11) for _ in range(size)]
    return [count if draw.random() < share else 0 for count in words], words


@pytest.mark.parametrize(
    ("share", "size"),
    slow_except(product([0.05, 0.2], [LEAST_SAMPLES, 40]), (0.05, 40), (0.2, LEAST_SAMPLES)),
)
def test_a_rate_is_covered_from_few_wrong_samples_too(share: float, size: int) -> None:
    draw, missed = random.Random(size), 0
    for _ in range(TRIALS):
        bounds = bound_ratio(*draw_rate(draw, size, share))
        missed += bounds is not None and not bounds.holds(share)
    assert missed / TRIALS <= 0.07


def test_samples_of_one_length_have_the_interval_of_their_mean() -> None:
    wrong = [0] * 10 + [1] * 6 + [2] * 8
    bounds, mean = bound_ratio(wrong, [4] * 24), bound_mean([one / 4 for one in wrong])
    assert bounds is not None and mean is not None
    assert (bounds.low, bounds.high) == pytest.approx((mean.low, mean.high))


@pytest.mark.parametrize("tops", [[1, 0] * 9, [0] * 30, [2] * 30])
def test_a_rate_of_few_or_equal_samples_has_no_interval(tops: list[int]) -> None:
    assert bound_ratio(tops, [4] * len(tops)) is None


# Changes


def draw_change(draw: random.Random, up: float, down: float) -> float:
    place = draw.random()
    return 1.0 if place < up else -1.0 if place < up + down else 0.0


@pytest.mark.parametrize(
    ("up", "down", "size"),
    slow_except(
        [
            (up, down, size)
            for up, down in [(0.01, 0.01), (0.1, 0.1), (0.05, 0.02), (0.1, 0.0)]
            for size in (LEAST_SAMPLES, 100)
        ],
        *((0.01, 0.01, 100), (0.1, 0.1, LEAST_SAMPLES)),
        *((0.05, 0.02, 100), (0.1, 0.0, LEAST_SAMPLES)),
    ),
)
def test_few_changed_samples_are_seldom_called_more_than_they_show(
    up: float, down: float, size: int
) -> None:
    draw, missed = random.Random(size), 0
    for _ in range(TRIALS):
        bounds = bound_change([draw_change(draw, up, down) for _ in range(size)])
        missed += bounds is not None and not bounds.holds(up - down)
    assert missed / TRIALS <= 0.07


def test_the_interval_of_a_mean_alone_would_call_equal_scores_different() -> None:
    draw, false = random.Random(4), 0
    for _ in range(TRIALS):
        bounds = bound_mean([draw_change(draw, 0.01, 0.01) for _ in range(100)])
        false += bounds is not None and not bounds.holds(0)
    assert false / TRIALS > 0.12


@pytest.mark.parametrize(("worse", "is_shown"), [(1, False), (3, False), (4, False), (6, True)])
def test_so_many_of_forty_samples_have_to_change_one_way(worse: int, is_shown: bool) -> None:
    bounds = bound_change([1.0] * worse + [0.0] * (40 - worse))
    assert bounds is not None and bounds.holds(0) != is_shown
    turned = bound_change([-1.0] * worse + [0.0] * (40 - worse))
    assert turned is not None
    assert (turned.low, turned.high) == pytest.approx((-bounds.high, -bounds.low))


def test_where_all_samples_change_the_interval_is_that_of_the_mean() -> None:
    changes = [0.1 * step for step in range(1, 31)]
    assert bound_change(changes) == bound_mean(changes)
