"""Means and their errors by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from profiling.statistics.means import (
    Estimate,
    bound_share,
    estimate_mean,
    scale,
    subtract,
)


def test_mean_of_five_windows_by_hand() -> None:
    estimate = estimate_mean([10.0, 11.0, 9.0, 10.5, 9.5])
    assert estimate.value == 10.0
    assert estimate.standard_error == pytest.approx(math.sqrt(0.625 / 5))
    assert estimate.freedom == 4
    assert estimate.interval.high == pytest.approx(10 + 2.776445 * math.sqrt(0.125), rel=1e-6)


def make_estimate(value: float, error: float, freedom: float = 4) -> Estimate:
    return Estimate(value=value, standard_error=error, freedom=freedom)


def test_errors_of_a_difference_add_in_squares() -> None:
    decode = subtract(make_estimate(100.0, 3.0), make_estimate(60.0, 4.0))
    assert (decode.value, decode.standard_error) == (40.0, 5.0)
    assert decode.freedom == pytest.approx(625 / (81 / 4 + 256 / 4))


def test_exact_estimates_have_an_exact_difference() -> None:
    exact = subtract(make_estimate(3.0, 0.0), make_estimate(1.0, 0.0))
    assert (exact.interval.low, exact.interval.high) == (2.0, 2.0)


@given(some.floats(0.1, 1e4), some.floats(0.0, 10.0), some.integers(1, 500))
def test_per_sample_times_samples_is_the_window(value: float, error: float, samples: int) -> None:
    window = make_estimate(value, error)
    again = scale(scale(window, 1 / samples), samples)
    assert again.value == pytest.approx(window.value)
    assert again.standard_error == pytest.approx(window.standard_error)


@pytest.mark.parametrize(
    ("hits", "low", "high"), [(0, 0.0, 0.277533), (5, 0.236593, 0.763407), (10, 0.722467, 1.0)]
)
def test_wilson_interval_of_ten(hits: int, low: float, high: float) -> None:
    interval = bound_share(hits, 10)
    assert interval.low == pytest.approx(low, abs=1e-6)
    assert interval.high == pytest.approx(high, abs=1e-6)
