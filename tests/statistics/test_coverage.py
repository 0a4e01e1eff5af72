"""Coverage of the intervals, simulated with a known truth."""

from __future__ import annotations

import numpy
import pytest

from profiling.statistics.medians import bound_median, choose_ranks
from profiling.statistics.ratios import compare_speed
from tests.statistics.series import make_series, stop_by_rule


def measure_coverage(rows: list[list[float]]) -> float:
    """Share of the intervals, as they stand when the rule stops, that hold the true median."""
    intervals = [bound_median(stop_by_rule(row)) for row in rows]
    return sum(found is not None and found.holds(1.0) for found in intervals) / len(rows)


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.1])
def test_coverage_with_independent_noise(noise: float) -> None:
    assert 0.94 <= measure_coverage(make_series(1200, 320, 0.0, noise)) <= 0.99


@pytest.mark.parametrize("noise", [0.02, 0.05])
@pytest.mark.parametrize("correlation", [0.3, 0.5, 0.7])
def test_coverage_with_autocorrelated_noise(correlation: float, noise: float) -> None:
    assert 0.93 <= measure_coverage(make_series(1200, 320, correlation, noise)) <= 0.99


def test_the_simulation_exposes_a_rule_that_looks_after_every_repeat() -> None:
    def bound_when_lucky(row: list[float]) -> tuple[float, float]:
        low, high = min(row), max(row)
        for n in range(6, len(row)):
            lower, upper, _ = choose_ranks(n) or (1, n, 0.0)
            ordered = sorted(row[:n])
            low, high = ordered[lower - 1], ordered[upper - 1]
            if (high - low) / 2 <= 0.03:
                break
        return low, high

    bounds = [bound_when_lucky(row) for row in make_series(300, 160, 0.5, 0.05)]
    assert sum(low <= 1.0 <= high for low, high in bounds) / len(bounds) < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.01, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.5, 0.7])
def test_coverage_with_many_trials(correlation: float, noise: float) -> None:
    rows = make_series(4000, 320, correlation, noise, seed=11)
    assert 0.935 <= measure_coverage(rows) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_coverage_of_the_speed_up(correlation: float) -> None:
    pairs = zip(
        make_series(1500, 320, correlation, 0.05, seed=1),
        make_series(1500, 320, correlation, 0.05, seed=2),
        strict=True,
    )
    ratios = [compare_speed(stop_by_rule(a), stop_by_rule(b)) for a, b in pairs]
    held = [r.low is not None and r.high is not None and r.low <= 1 <= r.high for r in ratios]
    assert 0.93 <= sum(held) / len(held) <= 0.995


@pytest.mark.slow
def test_coverage_with_skewed_noise() -> None:
    rows = numpy.exp(numpy.asarray(make_series(4000, 320, 0.5, 0.2)) - 1).tolist()
    assert 0.935 <= measure_coverage(rows) <= 0.992
