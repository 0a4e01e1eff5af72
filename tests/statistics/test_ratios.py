"""Two sets of repeats compared."""

from __future__ import annotations

import math

import pytest
from hypothesis import given

from profiling.statistics.ratios import compare_pairs, compare_speed, find_superiority
from tests.statistics.series import FEW_TIMES, TIMES, ZIGZAG


def test_speed_up_by_hand() -> None:
    fast = [value / 2 for value in ZIGZAG]
    ratio = compare_speed(ZIGZAG, fast)
    assert ratio.value == 2.0
    assert ratio.low == pytest.approx(
        2 * math.exp(-math.hypot(*[math.log(5.5 / 2), math.log(9 / 5.5)]))
    )
    assert ratio.high == pytest.approx(
        2 * math.exp(math.hypot(math.log(9 / 5.5), math.log(5.5 / 2)))
    )


@given(TIMES, TIMES)
def test_speed_up_one_way_times_the_other_is_one(a: list[float], b: list[float]) -> None:
    there, back = compare_speed(a, b), compare_speed(b, a)
    assert there.value * back.value == pytest.approx(1.0)
    if there.low is None or there.high is None:
        assert back.low is None
        return
    assert back.low is not None and back.high is not None
    assert there.low * back.high == pytest.approx(1.0)
    assert there.high * back.low == pytest.approx(1.0)
    assert there.low <= there.value <= there.high


def test_speed_up_of_few_repeats_has_no_interval() -> None:
    ratio = compare_speed([1.0, 1.1, 0.9], [0.5, 0.5, 0.5])
    assert (ratio.value, ratio.low, ratio.high) == (2.0, None, None)


def test_pairs_cancel_a_drift_that_spoils_separate_sets() -> None:
    drift = [1.0 + 0.05 * step for step in range(20)]
    baseline = [2.0 * m * (1 + z / 1000) for m, z in zip(drift, ZIGZAG * 2, strict=True)]
    assert (compare_speed(baseline, drift).confidence or 0.0) < 0.5
    ratio = compare_pairs(baseline, drift)
    assert ratio.confidence is not None and ratio.confidence >= 0.95
    assert ratio.low is not None and ratio.high is not None
    assert 2.0 < ratio.low <= ratio.value <= ratio.high < 2.03


def test_superiority_by_hand() -> None:
    assert find_superiority([3.0, 4.0], [1.0, 2.0]) == 1.0
    assert find_superiority([1.0, 2.0], [3.0, 4.0]) == 0.0
    assert find_superiority([2.0, 3.0], [1.0, 2.0]) == 3.5 / 4


@given(FEW_TIMES, FEW_TIMES)
def test_superiority_of_both_sides_adds_up(a: list[float], b: list[float]) -> None:
    assert find_superiority(a, b) + find_superiority(b, a) == pytest.approx(1.0)
