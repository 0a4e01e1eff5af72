"""Rounds: false calls, coverage, and the power of what is called detectable."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest

from profiling.statistics.rounds import (
    RoundsChange,
    compare_matched,
    compare_unmatched,
    find_power,
)
from tests.marking import slow_except

TRIALS = 1500
FEW_TRIALS = 400


def draw_matched(draw: random.Random, *, rounds: int, log: float) -> RoundsChange:
    """A machine that is slower in some rounds, for both sides alike."""
    drifts = [draw.gauss(0, 0.2) for _ in range(rounds)]
    sides = [
        [math.exp(shift + drift + draw.gauss(0, 0.02)) for drift in drifts] for shift in (0, log)
    ]
    return compare_matched(*sides)


def draw_unmatched(draw: random.Random, *, rounds: int, log: float) -> RoundsChange:
    before = [math.exp(draw.gauss(0, 0.02)) for _ in range(rounds)]
    return compare_unmatched(before, [math.exp(draw.gauss(log, 0.03)) for _ in range(rounds)])


DESIGNS = pytest.mark.parametrize("simulate", [draw_matched, draw_unmatched])


def is_called(found: RoundsChange) -> bool:
    assert found.interval is not None
    return not found.interval.holds(1.0)


@pytest.mark.parametrize(
    ("simulate", "rounds"),
    slow_except(
        product([draw_matched, draw_unmatched], [3, 5]), (draw_matched, 3), (draw_unmatched, 5)
    ),
)
def test_equal_points_are_called_equal(simulate: object, rounds: int) -> None:
    draw = random.Random(rounds)
    called = sum(is_called(simulate(draw, rounds=rounds, log=0.0)) for _ in range(FEW_TRIALS))  # type: ignore[operator]
    assert called / FEW_TRIALS <= 0.075


# That equal points are called equal holds the same of those without a partner.
@pytest.mark.parametrize("simulate", slow_except([draw_matched, draw_unmatched], draw_matched))
def test_intervals_hold_the_truth(simulate: object) -> None:
    draw, held = random.Random(4), 0
    for _ in range(FEW_TRIALS):
        interval = simulate(draw, rounds=4, log=0.1).interval  # type: ignore[operator]
        held += interval.holds(math.exp(0.1))
    assert 0.92 <= held / FEW_TRIALS <= 0.99


@pytest.mark.slow
@DESIGNS
@pytest.mark.parametrize("rounds", [3, 6])
def test_what_is_called_detectable_is_shown_four_times_in_five(
    simulate: object, rounds: int
) -> None:
    draw = random.Random(rounds)
    found = [simulate(draw, rounds=rounds, log=0.0) for _ in range(TRIALS)]  # type: ignore[operator]
    # The search for a shift is slow, and the typical round is that of the typical reach.
    found.sort(key=lambda one: one.interval.high / one.interval.low)
    middle = found[TRIALS // 2 - 15 : TRIALS // 2 + 16]
    log = math.log1p(sorted(one.detectable for one in middle)[15])
    shown = sum(is_called(simulate(draw, rounds=rounds, log=log)) for _ in range(TRIALS))  # type: ignore[operator]
    assert shown / TRIALS == pytest.approx(0.8, abs=0.04)


def test_power_without_a_shift_is_the_level() -> None:
    for freedom in (2, 4, 20):
        assert find_power(0.0, freedom) == pytest.approx(0.05, abs=1e-4)


def test_welch_by_hand() -> None:
    # Logs -1, 0, 1 and 1, 3, 5: variances 1 and 4 over 3 each.
    found = compare_unmatched([math.exp(x) for x in (-1, 0, 1)], [math.exp(x) for x in (1, 3, 5)])
    assert found.log == pytest.approx(3.0)
    assert found.standard_error == pytest.approx(math.sqrt(5 / 3))
    assert found.freedom == pytest.approx(25 / 9 / ((1 / 9 + 16 / 9) / 2))


def test_rounds_without_any_spread_have_no_interval() -> None:
    for compare in (compare_matched, compare_unmatched):
        found = compare([0.1] * 3, [1.0] * 3)
        assert found.interval is None and found.ratio == pytest.approx(10)
