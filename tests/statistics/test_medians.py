"""Known answers and laws of intervals of medians."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as some

from profiling.statistics.autocorrelation import count_effective, estimate_effective
from profiling.statistics.medians import LEAST_CONFIDENCE, bound_median, choose_ranks, take_quantile
from profiling.statistics.stopping import is_narrow
from tests.statistics.series import FEW_TIMES, TIMES, ZIGZAG, make_series


@pytest.mark.parametrize(
    ("size", "ranks"),
    [
        (6, (1, 6, 0.96875)),
        (9, (2, 8, 0.9609375)),
        (10, (2, 9, 0.978515625)),
        (20, (6, 15, 0.958610534667969)),
        (40, (14, 27, 0.9615226917158)),
    ],
)
def test_ranks_are_those_of_the_binomial_table(size: int, ranks: tuple[int, int, float]) -> None:
    lower, upper, confidence = choose_ranks(size) or (0, 0, 0.0)
    assert (lower, upper) == ranks[:2]
    assert confidence == pytest.approx(ranks[2], abs=1e-12)


@pytest.mark.parametrize("size", range(6))
def test_too_few_values_have_no_ranks(size: int) -> None:
    assert choose_ranks(size) is None


@given(some.integers(6, 400))
def test_ranks_are_the_narrowest_that_reach_the_confidence(size: int) -> None:
    ranks = choose_ranks(size)
    assert ranks is not None
    lower, upper, confidence = ranks
    assert lower + upper == size + 1
    assert confidence >= 0.95 > _enclose(size, lower + 1)
    assert confidence == pytest.approx(_enclose(size, lower))


def _enclose(size: int, lower: int) -> float:
    """Chance that at least `lower` and at most `size - lower` of the values are below."""
    inside = sum(math.comb(size, below) for below in range(lower, size - lower + 1))
    return inside / 2**size


def test_interval_is_the_second_smallest_to_the_second_largest_of_ten() -> None:
    interval = bound_median(ZIGZAG)
    assert interval is not None
    assert (interval.low, interval.high) == (2.0, 9.0)
    assert interval.half_width == 3.5
    assert interval.confidence == pytest.approx(0.978515625)


def test_equal_values_have_an_interval_without_width() -> None:
    interval = bound_median([0.25] * 12)
    assert interval is not None
    assert (interval.low, interval.high) == (0.25, 0.25)


def test_a_steady_drift_has_no_interval() -> None:
    drift = [1.0 + 0.001 * step for step in range(20)]
    assert count_effective(drift) == 1
    assert bound_median(drift) is None
    assert not is_narrow(drift, 0.03)


def test_autocorrelated_repeats_have_a_wider_interval_than_the_same_ones_shuffled() -> None:
    smooth = make_series(1, 200, 0.7, 0.05)[0]
    shuffled = numpy.random.default_rng(1).permutation(smooth).tolist()
    tight, wide = bound_median(shuffled), bound_median(smooth)
    assert tight is not None and wide is not None
    assert wide.half_width > 1.3 * tight.half_width


def test_where_the_effective_size_is_small_the_range_is_given_with_what_it_reaches() -> None:
    values = [4.0, 10.0, 5.0, 1.0, 3.0, 6.0, 8.0, 2.0, 9.0, 7.0]
    effective = estimate_effective(values)
    assert 3.4 < effective < 6
    interval = bound_median(values)
    assert interval is not None
    assert (interval.low, interval.high) == (1.0, 10.0)
    assert interval.confidence == pytest.approx(1 - 2 ** (1 - effective))
    assert LEAST_CONFIDENCE < interval.confidence < 0.95


@given(TIMES, some.floats(0.01, 100.0))
def test_interval_scales_with_the_unit(values: list[float], factor: float) -> None:
    interval = bound_median(values)
    scaled = bound_median([value * factor for value in values])
    if interval is None or scaled is None:
        assert interval is scaled
        return
    assert scaled.low == pytest.approx(interval.low * factor)
    assert scaled.high == pytest.approx(interval.high * factor)


ROUNDED = [2.0, 944.4340520542308, 944.4340520542308, 1.0, 1.0, 3.0, 0.5, 944.4340520542308, 1.0]


@given(TIMES)
@example([*ROUNDED, 0.25])
def test_interval_holds_the_median_and_is_inside_the_range(values: list[float]) -> None:
    interval = bound_median(values)
    if interval is not None:
        assert min(values) <= interval.low <= numpy.median(values) <= interval.high <= max(values)


def test_intervals_shrink_with_the_number_of_repeats() -> None:
    noise = numpy.random.default_rng(3).normal(1.0, 0.05, 1280)
    widths = []
    for size in (10, 40, 160, 640):
        interval = bound_median(noise[:size].tolist())
        assert interval is not None
        widths.append(interval.half_width)
    assert all(later < earlier for earlier, later in pairwise(widths))


@given(some.floats(), some.floats(0.0, 1.0))
@example(944.4340520542308, 0.1)
def test_between_equal_values_there_is_no_rounding(value: float, share: float) -> None:
    assume(math.isfinite(value))
    assert take_quantile([value, value], share) == value


@given(FEW_TIMES, some.floats(0.0, 1.0))
def test_quantiles_stay_between_the_extremes(values: list[float], share: float) -> None:
    assert min(values) <= take_quantile(values, share) <= max(values)


@given(FEW_TIMES, some.floats(0.0, 1.0))
def test_quantiles_are_numpys(values: list[float], share: float) -> None:
    assert take_quantile(values, share) == pytest.approx(float(numpy.quantile(values, share)))
