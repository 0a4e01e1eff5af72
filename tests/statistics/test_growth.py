"""Growth: laws that are known beforehand come back, and unknown ones are not invented."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.statistics.growth import LEAST_POINTS, find_crossing, fit_growth
from tests.marking import slow_except

SIZES = [64.0, 256.0, 576.0, 1024.0, 1600.0]
ENDS = ((64.0, 256.0), (1024.0, 1600.0))


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5, 2.0])
def test_an_exact_law_comes_back(power: float) -> None:
    growth = fit_growth(SIZES, [0.02 + 3e-5 * size**power for size in SIZES])
    assert growth is not None
    assert growth.power == pytest.approx(power, abs=0.005)
    assert growth.fixed == pytest.approx(0.02, rel=0.02)
    assert growth.at(576) == pytest.approx(0.02 + 3e-5 * 576**power, rel=1e-3)
    assert growth.r_squared > 0.999999
    assert growth.power_low <= power + 0.005 and growth.power_high >= power - 0.005


def share_held(power: float, noise: float, *, trials: int) -> float:
    draw = random.Random(1)
    held = 0
    for _ in range(trials):
        costs = [(0.02 + 1e-5 * size**power) * (1 + noise * draw.gauss(0, 1)) for size in SIZES]
        growth = fit_growth(SIZES, costs)
        assert growth is not None
        held += growth.power_low - 0.005 <= power <= growth.power_high + 0.005
    return held / trials


def test_the_interval_holds_the_true_power_nearly_always() -> None:
    assert share_held(1.2, 0.02, trials=400) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("power", [1.0, 1.2, 1.5, 2.0])
def test_the_interval_holds_the_true_power_in_many_trials(power: float, noise: float) -> None:
    assert share_held(power, noise, trials=2000) >= 0.935


def parabola(size: float) -> float:
    return 0.02 + 1e-5 * size + 2e-8 * size**2


def test_a_parabola_without_noise_is_no_power_law() -> None:
    growth = fit_growth(SIZES, [parabola(size) for size in SIZES])
    assert growth is not None
    assert not growth.is_power_law and not growth.is_determined
    assert growth.r_squared > 0.999
    ends = [math.log(parabola(b) / parabola(a)) / math.log(b / a) for a, b in ENDS]
    assert [growth.smallest_exponent, growth.largest_exponent] == pytest.approx(ends)


@pytest.mark.parametrize("power", slow_except([1.0, 1.5, 2.0], 1.5))
def test_a_power_law_is_seldom_taken_for_another_form(power: float) -> None:
    draw = random.Random(3)
    refused = 0
    for _ in range(100):
        costs = [(0.02 + 1e-5 * size**power) * (1 + 0.02 * draw.gauss(0, 1)) for size in SIZES]
        growth = fit_growth(SIZES, costs)
        refused += growth is None or not growth.is_power_law
    assert refused <= 5


def test_repeats_at_one_size_count_once_in_the_exponents() -> None:
    growth = fit_growth([10, 10, 20, 40, 80], [0.5, 2.0, 2.0, 4.0, 16.0])
    assert growth is not None
    assert growth.smallest_exponent == pytest.approx(1)
    assert growth.largest_exponent == pytest.approx(2)


def test_a_cost_that_only_trembles_has_no_law() -> None:
    draw = random.Random(2)
    growth = fit_growth(SIZES, [1 + 0.01 * draw.gauss(0, 1) for _ in SIZES])
    assert growth is not None
    assert not growth.is_determined


def test_too_few_sizes_have_no_law() -> None:
    assert fit_growth([1, 2, 3], [1.0, 2.0, 3.0]) is None
    assert fit_growth([1, 1, 2, 3], [1.0, 1.1, 2.0, 3.0]) is None
    assert fit_growth([], []) is None
    assert fit_growth([1, 2, 3, 4], [0.0, 1.0, 2.0, 3.0]) is None
    assert LEAST_POINTS == 4


@settings(max_examples=30)
@given(
    st.floats(1e-4, 10),
    st.floats(1e-6, 1),
    st.floats(0.2, 3),
    st.lists(st.floats(1, 1e4), min_size=4, max_size=8),
)
def test_neither_part_of_a_law_is_negative(
    fixed: float, slope: float, power: float, sizes: list[float]
) -> None:
    growth = fit_growth(sizes, [fixed + slope * size**power for size in sizes])
    if growth is not None:
        assert growth.fixed >= 0 and growth.slope >= 0
        assert growth.power_low <= growth.power <= growth.power_high
        assert growth.r_squared <= 1


def test_a_crossing_lies_between_the_points_around_it() -> None:
    assert find_crossing([10, 20, 40], [-3.0, -1.0, 1.0]) == pytest.approx(30)
    assert find_crossing([10, 20], [1.0, 2.0]) is None
    assert find_crossing([10, 20], [-2.0, -1.0]) is None


@pytest.mark.parametrize("power", [0.5, 1.0, 2.37])
def test_costs_without_noise_have_an_interval_of_some_width(power: float) -> None:
    sizes = [100.0, 200.0, 400.0, 800.0, 1600.0]
    growth = fit_growth(sizes, [3.0 + 0.01 * size**power for size in sizes])
    assert growth is not None and growth.is_determined
    assert growth.power_low < power < growth.power_high
    assert growth.power_high - growth.power_low < 0.05
