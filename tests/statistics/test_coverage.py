"""How often the intervals miss the truth, simulated with noise as machines make it."""

from __future__ import annotations

from itertools import product

import numpy
import pytest

from profiling.selfcheck.coverage import MOST_WRONG, count_wrong, is_wrong
from profiling.selfcheck.noise_shapes import SHAPES, Size
from profiling.statistics.intervals import CONFIDENCE
from profiling.statistics.medians import bound_median, choose_ranks
from tests.marking import slow_except
from tests.statistics.series import make_series, stop_by_rule

RULE = {"relative_target": 0.03}
# Changes within 20 passes, and modes that last 40, are seen in series of this length.
LONG = 640


def draw_rows(name: str, *, length: int, trials: int = 400) -> list[list[float]]:
    size = Size(trials=trials, length=length, noise=0.05)
    return SHAPES[name](numpy.random.default_rng(1), size).values.tolist()  # type: ignore[no-any-return]


def share_wrong(name: str, *, length: int, trials: int = 400) -> float:
    """Of series of that length, by the median of the long run."""
    rows = draw_rows(name, length=length, trials=trials)
    return sum(is_wrong(row, 1.0) for row in rows) / len(rows)


@pytest.mark.parametrize(
    "name", slow_except(SHAPES, "independent", "outliers", "autoregression of 0.8", "two modes")
)
def test_few_runs_state_an_interval_without_the_truth_in_it(name: str) -> None:
    wrong = list(count_wrong(name, RULE, trials=150, noise=0.05))
    assert sum(wrong) / len(wrong) <= MOST_WRONG


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.01, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("name", SHAPES)
def test_few_of_many_runs_state_an_interval_without_the_truth(name: str, noise: float) -> None:
    wrong = list(count_wrong(name, RULE, trials=1500, noise=noise, longest=LONG, seed=11))
    assert sum(wrong) / len(wrong) <= MOST_WRONG


@pytest.mark.parametrize(
    ("name", "length"),
    slow_except(
        product(
            ["independent", "autoregression of 0.5", "autoregression of 0.8"],
            [6, 8, 12, 20, 40, 160],
        ),
        *(("independent", 8), ("independent", 40)),
        *(("autoregression of 0.5", 6), ("autoregression of 0.5", 20)),
        *(("autoregression of 0.8", 12), ("autoregression of 0.8", 40)),
    ),
)
def test_short_series_state_no_interval_rather_than_a_wrong_one(name: str, length: int) -> None:
    assert share_wrong(name, length=length) <= MOST_WRONG


@pytest.mark.slow
@pytest.mark.parametrize("length", [6, 7, 8, 10, 12, 16, 20, 40, 80, 160])
@pytest.mark.parametrize("name", ["independent", "autoregression of 0.5", "autoregression of 0.8"])
def test_many_short_series_state_no_interval_rather_than_a_wrong_one(
    name: str, length: int
) -> None:
    assert share_wrong(name, length=length, trials=4000) <= 0.055


@pytest.mark.parametrize(("length", "least"), [(12, 0.5), (20, 0.85), (40, 0.99)])
def test_independent_repeats_have_an_interval(length: int, least: float) -> None:
    intervals = [bound_median(row) for row in draw_rows("independent", length=length)]
    stated = sum(found is not None and found.confidence >= CONFIDENCE for found in intervals)
    assert stated / len(intervals) >= least


@pytest.mark.parametrize("name", ["slow changes", "two modes"])
def test_long_series_show_the_long_run(name: str) -> None:
    assert share_wrong(name, length=LONG, trials=200) <= MOST_WRONG


@pytest.mark.parametrize("name", ["slow changes", "two modes"])
def test_short_series_do_not_show_the_long_run(name: str) -> None:
    """The reason for the words "in this stretch of time": no method sees what did not happen."""
    assert share_wrong(name, length=20) > MOST_WRONG


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
def test_coverage_with_skewed_noise() -> None:
    rows = numpy.exp(numpy.asarray(make_series(2000, 320, 0.5, 0.2)) - 1).tolist()
    wrong = [is_wrong(stop_by_rule(row), 1.0) for row in rows]
    assert sum(wrong) / len(wrong) <= MOST_WRONG
