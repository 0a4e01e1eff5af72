"""Differences: none called where there is none, the known ones found, and hand-computed values."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.report.read.readings import Repeat
from profiling.report.say.differences import (
    bound_shift,
    compare_errors,
    compare_repeats,
    count_rank_sums,
    mean_pairs,
    pair_repeats,
    sign_test_p,
    signed_rank_p,
)

DEFAULT_REPEATS = 10


def simulate(draw: random.Random, *, size: int, factor: float) -> tuple[list[float], list[float]]:
    noise = 0.02
    before = [0.1 * (1 + noise * draw.gauss(0, 1)) for _ in range(size)]
    return before, [0.1 * factor * (1 + noise * draw.gauss(0, 1)) for _ in range(size)]


@pytest.mark.parametrize("size", [DEFAULT_REPEATS, 20, 40])
def test_equal_runs_are_called_equal(size: int) -> None:
    draw = random.Random(size)
    calls = [
        compare_repeats(*simulate(draw, size=size, factor=1)).is_significant for _ in range(1000)
    ]
    assert calls.count(False) >= 930


def test_a_slowdown_of_a_twentieth_is_found() -> None:
    draw = random.Random(5)
    found = [
        compare_repeats(*simulate(draw, size=DEFAULT_REPEATS, factor=1.05)) for _ in range(500)
    ]
    assert sum(one.is_significant and one.change > 0 for one in found) >= 450
    held = [one.bounds is not None and one.bounds.holds(0.05) for one in found]
    assert held.count(True) >= 0.93 * len(held)


def test_what_could_have_been_seen_is_seen_four_times_in_five() -> None:
    draw = random.Random(6)
    sizes = [compare_repeats(*simulate(draw, size=20, factor=1)).detectable for _ in range(200)]
    typical = sorted(size for size in sizes if size is not None)[100]
    found = [
        compare_repeats(*simulate(draw, size=20, factor=1 + typical)).is_significant
        for _ in range(400)
    ]
    assert 0.7 <= found.count(True) / 400 <= 0.92


def test_repeats_that_are_alike_are_not_taken_for_more_than_they_are() -> None:
    draw = random.Random(7)
    called = 0
    for _ in range(300):
        sides = []
        for _ in range(2):
            drift, values = 0.0, []
            for _ in range(40):
                drift = 0.5 * drift + draw.gauss(0, 1)
                values.append(0.1 * math.exp(0.02 * drift))
            sides.append(values)
        called += compare_repeats(*sides).is_significant
    assert called / 300 < 0.13


def test_signed_ranks_by_hand() -> None:
    # Ranks 1..5, the second negative: the smaller sum is 2, reached by the empty set, {1}, {2}.
    assert signed_rank_p([1.0, -2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 * 3 / 32)
    assert signed_rank_p([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == pytest.approx(2 / 64)
    assert signed_rank_p([0.0, 0.0]) == 1.0


@pytest.mark.parametrize("size", [1, 4, 9])
def test_rank_sums_are_counted_as_by_trying_all_signs(size: int) -> None:
    sums = [sum(r for r, s in enumerate(signs, 1) if s) for signs in product((0, 1), repeat=size)]
    counted = tuple(sums.count(total) for total in range(size * (size + 1) // 2 + 1))
    assert count_rank_sums(size) == counted


def test_the_interval_of_a_shift_by_hand() -> None:
    # Six values allow one mean on each side: the outermost ones, at 1 - 2/64.
    bounds = bound_shift([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert bounds is not None
    assert (bounds.low, bounds.high) == (1.0, 6.0)
    assert bound_shift([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert mean_pairs([1.0, 3.0]) == [1.0, 2.0, 3.0]


@given(st.lists(st.floats(0.01, 10), min_size=6, max_size=30), st.floats(0.5, 2))
def test_a_pure_factor_comes_back_exactly(values: list[float], factor: float) -> None:
    found = compare_repeats(values, [factor * value for value in values])
    assert found.change == pytest.approx(factor - 1, abs=1e-9)
    assert found.bounds is not None
    assert found.bounds.low - 1e-9 <= factor - 1 <= found.bounds.high + 1e-9


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), min_size=6, max_size=30))
def test_exchanging_the_sides_turns_the_change_round(pairs: list[tuple[float, float]]) -> None:
    before, after = [a for a, _ in pairs], [b for _, b in pairs]
    there, back = compare_repeats(before, after), compare_repeats(after, before)
    assert (1 + there.change) * (1 + back.change) == pytest.approx(1)
    assert there.p_value == pytest.approx(back.p_value)
    assert there.superiority == pytest.approx(1 - back.superiority)


def test_many_repeats_are_thinned_and_still_tell() -> None:
    draw = random.Random(8)
    found = compare_repeats(*simulate(draw, size=5000, factor=1.01))
    assert found.pairs == 5000
    assert found.is_significant
    assert found.change == pytest.approx(0.01, abs=0.003)


def test_repeats_are_paired_by_batch_and_turn() -> None:
    batches_before, batches_after = (0, 1, 0, 1, 2), (1, 0, 1, 3)
    before = [Repeat(repeat=i, batch=b, value=float(i)) for i, b in enumerate(batches_before)]
    after = [Repeat(repeat=i, batch=b, value=10.0 + i) for i, b in enumerate(batches_after)]
    assert pair_repeats(before, after[::-1]) == ([0.0, 1.0, 3.0], [11.0, 10.0, 12.0])


def test_errors_are_paired_by_sample() -> None:
    before = {"a": 0.0, "b": 0.5, "c": 1.0, "only": 9.0}
    found = compare_errors(before, {"a": 0.5, "b": 0.5, "c": 0.5, "other": 0.0})
    assert found is not None
    assert (found.samples, found.better, found.worse) == (3, 1, 1)
    assert found.change == pytest.approx(0.0)
    assert not found.is_significant
    assert compare_errors({"a": 0.0}, {"a": 1.0}) is None


def test_signs_by_hand() -> None:
    assert sign_test_p(0, 0) == 1.0
    assert sign_test_p(0, 6) == pytest.approx(2 / 64)
    assert sign_test_p(3, 3) == 1.0
