"""Steps and trends are found where there are some, and seldom where there are none."""

from __future__ import annotations

import math
from itertools import product

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as some

from profiling.selfcheck.noise_shapes import SHAPES, Size
from profiling.statistics.drift import LEAST_VALUES, Drift, describe_drift, find_drift
from tests.marking import slow_except
from tests.statistics.series import TIMES


def draw_noise(length: int, noise: float, *, seed: int) -> list[float]:
    return (1 + noise * numpy.random.default_rng(seed).standard_normal(length)).tolist()


def warm_up(length: int, noise: float, *, seed: int = 0) -> list[float]:
    """A decay of 30% with a time constant of 30 passes, as a rule on running medians leaves it."""
    rest = (0.3 * math.exp(-(i + 9) / 30) for i in range(length))
    return [a + b for a, b in zip(draw_noise(length, noise, seed=seed), rest, strict=True)]


def throttle(length: int, at: int, size: float, noise: float, *, seed: int = 0) -> list[float]:
    passes = draw_noise(length, noise, seed=seed)
    return [value + size * (i >= at) for i, value in enumerate(passes)]


@pytest.mark.parametrize(("length", "noise"), [(20, 0.01), (40, 0.03), (80, 0.05), (320, 0.05)])
def test_a_slow_warm_up_is_a_trend_down(length: int, noise: float) -> None:
    found = [find_drift(warm_up(length, noise, seed=seed)) for seed in range(50)]
    drifts = [drift for drift in found if drift is not None]
    assert len(drifts) >= 48
    assert sum(drift.kind == "trend" for drift in drifts) >= 40
    assert all(drift.change < 0 for drift in drifts)


def test_the_change_of_a_trend_is_that_from_the_first_repeats_to_the_last() -> None:
    drift = find_drift(warm_up(160, 0.001))
    assert drift is not None and drift.at is None
    first = 1 + 0.3 * math.exp(-(9.5 + 9) / 30)
    assert drift.change == pytest.approx(1 / first - 1, abs=0.005)


@pytest.mark.parametrize(("length", "at"), [(20, 10), (40, 30), (200, 57)])
def test_throttling_is_a_step_up_at_its_place(length: int, at: int) -> None:
    drift = find_drift(throttle(length, at, 0.2, 0.02))
    assert drift is not None
    assert (drift.kind, drift.at) == ("step", at)
    assert drift.change == pytest.approx(0.2, abs=0.02)


def test_a_perfect_step_is_found() -> None:
    drift = find_drift([1.0] * 20 + [2.0] * 20)
    assert drift == Drift(kind="step", change=1.0, at=20, strength=math.inf)


def share_found(name: str, length: int, trials: int) -> float:
    size = Size(trials=trials, length=length, noise=0.05)
    rows = SHAPES[name](numpy.random.default_rng(2), size).values.tolist()
    return sum(find_drift(row) is not None for row in rows) / trials


@pytest.mark.parametrize(
    ("name", "length"),
    slow_except(
        product(["independent", "outliers"], [12, 20, 80, 320]),
        *(("independent", 12), ("independent", 80), ("outliers", 20), ("outliers", 80)),
    ),
)
def test_nothing_is_found_in_independent_noise(name: str, length: int) -> None:
    assert share_found(name, length, 400) <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("length", [12, 20, 40, 80, 160, 320])
def test_nothing_is_found_in_much_independent_noise(length: int) -> None:
    assert share_found("independent", length, 4000) <= 0.015


@pytest.mark.parametrize(
    ("length", "most"),
    slow_except([(20, 0.12), (80, 0.06), (320, 0.02)], (20, 0.12), (80, 0.06)),
)
def test_noise_with_a_memory_is_seldom_taken_for_a_drift(length: int, most: float) -> None:
    assert share_found("autoregression of 0.8", length, 400) <= most


def test_slow_changes_that_outlast_a_series_are_found() -> None:
    assert share_found("two modes", 80, 200) > 0.25


def test_what_does_not_matter_is_not_reported() -> None:
    assert find_drift(throttle(100, 50, 0.01, 0.0001)) is None
    assert find_drift(throttle(100, 50, 0.03, 0.0001)) is not None


def test_single_outliers_do_not_matter() -> None:
    values = draw_noise(40, 0.02, seed=3)
    values[30] = 9.0
    assert find_drift(values) is None


@pytest.mark.parametrize("length", [0, 1, LEAST_VALUES - 1])
def test_too_few_values_tell_nothing(length: int) -> None:
    assert find_drift([float(i) for i in range(length)]) is None


def test_equal_values_do_not_drift() -> None:
    assert find_drift([0.25] * 50) is None


@given(TIMES, some.integers(-10, 10))
def test_a_drift_does_not_depend_on_the_unit(values: list[float], power: int) -> None:
    factor = 2.0**power  # without rounding, which could make values equal
    drift = find_drift(values)
    scaled = find_drift([value * factor for value in values])
    assert (drift is None) == (scaled is None)
    if drift is not None and scaled is not None:
        assert (drift.kind, drift.at) == (scaled.kind, scaled.at)
        assert scaled.change == pytest.approx(drift.change)


@pytest.mark.parametrize(
    ("drift", "words"),
    [
        (
            Drift(kind="step", change=0.314, at=16, strength=9.0),
            "steps up by 31% at repeat 17",
        ),
        (
            Drift(kind="trend", change=-0.14, at=None, strength=9.0),
            "drifts down by 14% from the first repeats to the last",
        ),
    ],
)
def test_a_drift_in_words(drift: Drift, words: str) -> None:
    assert describe_drift(drift) == words
