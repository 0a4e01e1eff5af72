"""Paired comparisons over launches: by hand, and simulated with noise as machines make it."""

from __future__ import annotations

import math
from itertools import product

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as some

from profiling.selfcheck.noise_shapes import SHAPES, Size
from profiling.statistics.launches import (
    LEAST_PAIRS,
    MOST_PAIRS,
    Launches,
    choose_pairs,
    count_pairs_needed,
    find_best_pairs,
)
from profiling.statistics.ratios import PairedRatio, compare_launches, take_logs
from profiling.statistics.student import student_quantile
from tests.marking import slow_except

LOGS = some.lists(some.floats(-0.5, 0.5), min_size=2, max_size=6)
PAIRS = 24


# By hand


def test_three_launches_by_hand() -> None:
    launches = [[0.0, 0.2], [0.1, 0.3], [0.2, 0.4]]
    found = compare_launches(launches, first=None)
    assert (found.launches, found.pairs) == (3, 6)
    assert found.value == pytest.approx(math.exp(0.2))
    reach = 4.302653 * 0.1 / math.sqrt(3)
    assert found.low == pytest.approx(math.exp(0.2 - reach), rel=1e-6)
    assert found.high == pytest.approx(math.exp(0.2 + reach), rel=1e-6)
    assert found.within_launch_sd == pytest.approx(math.sqrt(0.02))
    # The means spread by 0.1; pairs alone would make them spread by sqrt(0.02 / 2) = 0.1.
    assert found.between_launch_sd == pytest.approx(0.0, abs=1e-7)


def test_what_launches_add_to_the_spread_of_pairs() -> None:
    found = compare_launches([[0.0, 0.02], [0.5, 0.52], [1.0, 1.02]], first=None)
    assert found.between_launch_sd == pytest.approx(math.sqrt(0.25 - 0.0002 / 2))


def test_times_become_log_ratios() -> None:
    assert take_logs([2.0, 3.0], [1.0, 6.0]) == pytest.approx([math.log(2), -math.log(2)])
    with pytest.raises(ValueError, match="shorter"):
        take_logs([1.0, 2.0], [1.0])


@pytest.mark.parametrize("number", [1, 2])
def test_one_or_two_launches_have_no_interval(number: int) -> None:
    found = compare_launches([[0.1, 0.2]] * number, first=None)
    assert (found.low, found.high, found.confidence) == (None, None, None)
    assert found.value == pytest.approx(math.exp(0.15))
    assert not found.is_different


@pytest.mark.parametrize("first", [None, 3])
def test_launches_that_do_not_vary_have_no_interval(first: int | None) -> None:
    found = compare_launches([[0.1, 0.3], [0.2, 0.2], [0.3, 0.1]], first=first)
    assert found.value == pytest.approx(math.exp(0.2))
    assert (found.low, found.high, found.confidence) == (None, None, None)
    assert not found.is_different


def test_single_pairs_have_no_spread_within() -> None:
    found = compare_launches([[math.log(value)] for value in (1.1, 1.11, 1.12)], first=None)
    assert (found.within_launch_sd, found.between_launch_sd) == (None, None)
    assert found.value == pytest.approx((1.1 * 1.11 * 1.12) ** (1 / 3))
    assert found.is_different


@given(some.lists(LOGS, min_size=1, max_size=6))
def test_exchanging_the_sides_turns_the_ratio_over(launches: list[list[float]]) -> None:
    there = compare_launches(launches, first=None)
    back = compare_launches([[-log for log in logs] for logs in launches], first=None)
    assert there.value * back.value == pytest.approx(1)
    if there.low is None or there.high is None or back.high is None:
        means = [sum(logs) / len(logs) for logs in launches]
        assert len(launches) < 3 or max(means) - min(means) < 1e-11
        return
    assert there.low * back.high == pytest.approx(1)
    assert there.low <= there.value <= there.high


def test_launches_after_the_first_narrow_the_interval_and_leave_its_spread() -> None:
    first = [[0.0], [0.1], [0.2]]
    found = compare_launches([*first, [0.1], [9.1]], first=3)
    assert found.high is not None
    reach = student_quantile(0.975, 2) * 0.1 / math.sqrt(5)
    assert math.log(found.high / found.value) == pytest.approx(reach)
    assert found.value == pytest.approx(math.exp(9.5 / 5))


def test_longer_launches_that_spread_more_are_in_the_interval() -> None:
    first, longer = [[0.0], [0.01], [0.02]], [[-0.3] * 2, [0.35] * 2, [-0.32] * 2]
    found = compare_launches([*first, *longer], first=3)
    all_of_them = compare_launches([*first, *longer], first=None)
    assert (found.low, found.high) == (all_of_them.low, all_of_them.high)
    as_long = compare_launches([*first, *(one[:1] for one in longer)], first=3)
    assert as_long.high is not None and found.high is not None and as_long.high < found.high


def test_drift_in_longer_launches_does_not_make_false_calls() -> None:
    draw, false = numpy.random.default_rng(2), 0
    for _ in range(300):
        drifts = numpy.cumsum(0.04 * draw.standard_normal((18, 24)), axis=1)
        launches = [row[:8].tolist() for row in drifts[:5]] + drifts[5:].tolist()
        false += misses(compare_launches(launches, first=5), 1.0)
    assert false / 300 <= 0.07


# The rule


def make_rule(**changes: float) -> Launches:
    settings = {"relative_target": 0.03, "time_budget_s": 1e9, "first": 5, "maximum": 40}
    return Launches(**(settings | changes))  # type: ignore[arg-type]


def count_launches(rule: Launches, means: list[float], *, second_each: float = 1.0) -> int:
    number = 0
    while rule.wants_more([[mean] for mean in means[:number]], number * second_each):
        number += 1
    return number


def test_narrow_launches_end_at_once() -> None:
    rule = make_rule()
    assert count_launches(rule, [0.0, 0.001, 0.002, 0.001, 0.0]) == 5
    assert rule.stopped_by == "interval"


def test_the_first_launches_decide_how_many_are_needed() -> None:
    means = [0.0, 0.02, 0.04, 0.06, 0.08] * 20
    spread = math.sqrt(0.001)
    needed = math.ceil((2.776445 * spread / math.log(1.03)) ** 2)
    rule = make_rule()
    assert rule.count_needed([[mean] for mean in means]) == needed == 9
    assert count_launches(rule, means) == needed
    assert rule.stopped_by == "interval"
    found = rule.compare([[mean] for mean in means[:needed]])
    assert found.low is not None
    assert found.value / found.low <= 1.03


def test_wild_launches_end_at_the_maximum_or_with_the_budget() -> None:
    wild = [0.5 * (-1) ** i for i in range(99)]
    rule = make_rule(maximum=12)
    assert count_launches(rule, wild) == 12
    assert rule.stopped_by == "maximum"
    hurried = make_rule(time_budget_s=70.0)
    # The eighth would end after 80 seconds.
    assert count_launches(hurried, wild, second_each=10.0) == 7
    assert hurried.stopped_by == "time_budget"


def test_the_budget_leaves_three_launches() -> None:
    rule = make_rule(time_budget_s=1.0)
    assert count_launches(rule, [0.0] * 9, second_each=100.0) == 3
    assert rule.compare([[0.0], [0.1], [0.2]]).low is not None


@pytest.mark.parametrize(
    ("launch_s", "pair_s", "pairs"),
    [(9.0, 0.3, 30), (9.0, 100.0, LEAST_PAIRS), (9.0, 1e-6, MOST_PAIRS), (10.0, 0.9, 12)],
)
def test_pairs_take_as_long_as_the_start(launch_s: float, pair_s: float, pairs: int) -> None:
    assert choose_pairs(launch_s=launch_s, pair_s=pair_s) == pairs


def cost_of_variance(pairs: float, between: float, within: float, launch_s: float) -> float:
    """Seconds times variance, for pairs of one second."""
    return (launch_s + pairs) * (between**2 + within**2 / pairs)


@given(some.floats(0.001, 0.1), some.floats(0.001, 0.1), some.floats(10.0, 150.0))
def test_pairs_are_worth_their_time(between: float, within: float, launch_s: float) -> None:
    best = find_best_pairs(
        between_launch_sd=between, within_launch_sd=within, launch_s=launch_s, pair_s=1.0
    )
    least = min(
        cost_of_variance(pairs, between, within, launch_s)
        for pairs in range(LEAST_PAIRS, MOST_PAIRS + 1)
    )
    assert cost_of_variance(best, between, within, launch_s) <= 1.02 * least
    blind = choose_pairs(launch_s=launch_s, pair_s=1.0)
    assert cost_of_variance(blind, between, within, launch_s) <= 2.1 * least


def test_launches_that_do_not_differ_are_not_worth_starting_again() -> None:
    given = {"within_launch_sd": 0.1, "launch_s": 10.0, "pair_s": 1.0}
    assert find_best_pairs(between_launch_sd=0.0, **given) == MOST_PAIRS


@given(some.floats(0.03, 0.15), some.integers(3, 10))
def test_pairs_that_are_needed_leave_launches_a_part(within: float, launches: int) -> None:
    pairs = count_pairs_needed(within_launch_sd=within, launches=launches, relative_target=0.03)
    reach = student_quantile(0.975, launches - 1) * within / math.sqrt(pairs * launches)
    if LEAST_PAIRS < pairs < MOST_PAIRS:
        assert reach == pytest.approx(0.8 * math.log(1.03), rel=0.1)
    assert (
        count_pairs_needed(within_launch_sd=within / 2, launches=launches, relative_target=0.03)
        <= pairs
    )


# Simulated


def draw_launches(
    name: str, *, between: float, noise: float, trials: int, launches: int, ratio: float = 1.0
) -> list[list[list[float]]]:
    """Trials of launches, each with the mean of its log ratios.

    Each side has a spread between launches, and noise from pass to pass.
    """
    draw = numpy.random.default_rng(6)
    size = Size(trials=trials * launches, length=PAIRS, noise=noise)
    sides = [numpy.maximum(SHAPES[name](draw, size).values, 0.05) for _ in range(2)]
    levels = between * draw.standard_normal((2, trials * launches, 1))
    logs = numpy.log(sides[0]) - numpy.log(sides[1]) + levels[0] - levels[1] + math.log(ratio)
    means = logs.mean(axis=1).reshape(trials, launches, 1)
    return means.tolist()  # type: ignore[no-any-return]


def misses(found: PairedRatio, truth: float) -> bool:
    return found.low is None or found.high is None or not found.low <= truth <= found.high


def share_false(name: str, between: float, noise: float, *, trials: int, rule: bool) -> float:
    """How often equal sides are called different."""
    drawn = draw_launches(
        name, between=between, noise=noise, trials=trials, launches=20 if rule else 5
    )
    return sum(misses(_compare(launches, rule), 1.0) for launches in drawn) / trials


def _compare(launches: list[list[float]], by_rule: bool) -> PairedRatio:
    if not by_rule:
        return compare_launches(launches, first=None)
    rule = make_rule(maximum=len(launches))
    number = 0
    while rule.wants_more(launches[:number], float(number)):
        number += 1
    return rule.compare(launches[:number])


@pytest.mark.parametrize(
    ("name", "rule"),
    slow_except(
        product(SHAPES, [False, True]),
        # each shape once, by the rule every second one
        *((name, number % 2 == 1) for number, name in enumerate(SHAPES)),
    ),
)
def test_equal_sides_are_seldom_called_different(name: str, rule: bool) -> None:
    assert 0.025 <= share_false(name, 0.02, 0.05, trials=400, rule=rule) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("rule", [False, True])
@pytest.mark.parametrize(("between", "noise"), [*product([0.01, 0.05], [0.01, 0.05, 0.1])])
@pytest.mark.parametrize("name", SHAPES)
def test_coverage_with_many_trials(name: str, between: float, noise: float, rule: bool) -> None:
    assert 0.03 <= share_false(name, between, noise, trials=4000, rule=rule) <= 0.06


def share_false_with_added_pairs(name: str, *, trials: int, few: int = 16) -> float:
    """The same where the spread of the first few pairs decides how many each launch has."""
    draw, launches = numpy.random.default_rng(7), 5
    size = Size(trials=trials * launches, length=MOST_PAIRS, noise=0.08)
    sides = [numpy.maximum(SHAPES[name](draw, size).values, 0.05) for _ in range(2)]
    levels = 0.01 * draw.standard_normal((2, trials * launches, 1))
    logs = numpy.log(sides[0]) - numpy.log(sides[1]) + levels[0] - levels[1]
    false = 0
    for trial in logs.reshape(trials, launches, MOST_PAIRS):
        spread = float(trial[0, :few].std(ddof=1))
        pairs = max(
            few,
            count_pairs_needed(within_launch_sd=spread, launches=launches, relative_target=0.03),
        )
        means = trial[:, :pairs].mean(axis=1)
        false += misses(compare_launches([[float(mean)] for mean in means], first=launches), 1.0)
    return false / trials


def test_pairs_that_are_added_for_their_spread_make_no_false_calls() -> None:
    assert share_false_with_added_pairs("outliers", trials=1000) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_pairs_that_are_added_make_no_false_calls_in_many_trials(name: str) -> None:
    assert 0.03 <= share_false_with_added_pairs(name, trials=3000) <= 0.06


def test_five_percent_more_work_is_found() -> None:
    settings = {"between": 0.007, "noise": 0.05, "trials": 300, "launches": 5}
    drawn = draw_launches("independent", ratio=1.05, **settings)  # type: ignore[arg-type]
    found = [compare_launches(launches, first=None) for launches in drawn]
    assert sum(ratio.is_different and ratio.value > 1 for ratio in found) / 300 > 0.95
    assert not any(ratio.is_different and ratio.value < 1 for ratio in found)


def test_a_rule_that_looks_after_every_launch_is_exposed() -> None:
    draw = numpy.random.default_rng(8)
    drawn = (0.05 * draw.standard_normal((800, 20, 1))).tolist()

    def stop_when_lucky(launches: list[list[float]]) -> PairedRatio:
        for number in range(3, len(launches) + 1):
            found = compare_launches(launches[:number], first=None)
            if found.low and found.value / found.low <= 1.05:
                break
        return found

    assert sum(misses(stop_when_lucky(launches), 1.0) for launches in drawn) / 800 > 0.07
