"""Known answers, laws and simulated coverage of the statistics."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as some

from profiling.statistics import (
    FIRST_LOOK,
    Estimate,
    Repeats,
    Settling,
    bound_median,
    bound_ratio,
    bound_share,
    choose_ranks,
    compare_pairs,
    compare_speed,
    correlate_ranks,
    count_effective,
    describe_interval,
    divide,
    estimate_likeness,
    estimate_mean,
    find_superiority,
    is_narrow,
    rank_values,
    scale,
    student_quantile,
    subtract,
    summarize,
    take_quantile,
)

TIMES = some.lists(some.floats(0.001, 1000.0), min_size=6, max_size=60)
FEW_TIMES = some.lists(some.floats(0.001, 1000.0), min_size=1, max_size=30)
ZIGZAG = [1.0, 10.0, 2.0, 9.0, 3.0, 8.0, 4.0, 7.0, 5.0, 6.0]


# Ranks and intervals


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


def test_a_steady_drift_has_its_range_and_little_confidence() -> None:
    drift = [1.0 + 0.001 * step for step in range(20)]
    assert count_effective(drift) == 1
    interval = bound_median(drift)
    assert interval is not None
    assert (interval.low, interval.high) == (drift[0], drift[-1])
    assert interval.confidence < 0.5
    assert not is_narrow(drift, 0.03)


def test_repeats_that_are_alike_have_a_wider_interval_than_the_same_ones_mixed() -> None:
    mixed = ZIGZAG * 4
    alike = sorted(mixed[:20]) + sorted(mixed[20:], reverse=True)
    tight, wide = bound_median(mixed), bound_median(alike)
    assert tight is not None and wide is not None
    assert wide.half_width > tight.half_width


def test_where_repeats_are_worth_too_few_the_range_is_given_with_what_it_reaches() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 4.0, 3.0, 2.0, 1.0, 2.0, 3.0, 4.0]
    assert count_effective(values) < 6
    alike = correlate_ranks(values)
    interval = bound_median(values)
    assert interval is not None
    assert (interval.low, interval.high) == (1.0, 5.0)
    assert interval.confidence == pytest.approx(1 - 2 ** (1 - 12 * (1 - alike) / (1 + alike)))
    assert interval.confidence < 0.95


@given(TIMES, some.floats(0.01, 100.0))
def test_interval_scales_with_the_unit(values: list[float], factor: float) -> None:
    interval = bound_median(values)
    scaled = bound_median([value * factor for value in values])
    if interval is None or scaled is None:
        assert interval is scaled
        return
    assert scaled.low == pytest.approx(interval.low * factor)
    assert scaled.high == pytest.approx(interval.high * factor)


@given(TIMES)
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


@pytest.mark.parametrize("likeness", [0.0, 0.3, 0.6])
def test_autocorrelation_is_estimated_without_much_bias(likeness: float) -> None:
    estimates = [estimate_likeness(row) for row in make_series(2000, 20, likeness, 0.05)]
    assert numpy.mean(estimates) == pytest.approx(likeness, abs=0.06)


@given(FEW_TIMES)
def test_ranks_add_up_whatever_the_ties(values: list[float]) -> None:
    assert sum(rank_values(values)) == pytest.approx(len(values) * (len(values) + 1) / 2)


def test_equal_values_share_their_rank() -> None:
    assert rank_values([3.0, 1.0, 3.0, 2.0]) == [3.5, 1.0, 3.5, 2.0]


# Summaries


def test_summary_of_four_values_by_hand() -> None:
    summary = summarize([4.0, 1.0, 3.0, 2.0])
    assert (summary.n, summary.median, summary.mean) == (4, 2.5, 2.5)
    assert summary.std == pytest.approx(math.sqrt(5 / 3))
    assert (summary.minimum, summary.maximum) == (1.0, 4.0)
    assert (summary.low, summary.high, summary.p95) == (None, None, None)
    assert summary.missing["low"] == describe_interval(summary)
    assert "6" in summary.missing["low"]


def test_nothing_is_summarized_as_nothing_with_reasons() -> None:
    summary = summarize([])
    assert summary.n == 0
    for name in ("median", "mean", "std", "minimum", "maximum", "p95", "p99", "low", "high"):
        assert getattr(summary, name) is None
        assert summary.missing[name]


@given(some.lists(some.floats(0.001, 1000.0), max_size=30))
def test_every_gap_in_a_summary_has_a_reason_and_nothing_else_has(values: list[float]) -> None:
    summary = summarize(values)
    gaps = {name for name, value in vars(summary).items() if value is None}
    assert gaps == set(summary.missing)


@pytest.mark.parametrize(
    ("n", "has_p95", "has_p99"),
    [(99, False, False), (100, True, False), (499, True, False), (500, True, True)],
)
def test_tails_need_enough_repeats(n: int, has_p95: bool, has_p99: bool) -> None:
    summary = summarize([float((7 * step) % n) for step in range(n)])
    assert (summary.p95 is not None, summary.p99 is not None) == (has_p95, has_p99)
    assert ("p95" in summary.missing, "p99" in summary.missing) == (not has_p95, not has_p99)


@given(FEW_TIMES, some.floats(0.0, 1.0))
def test_quantiles_are_numpys(values: list[float], share: float) -> None:
    assert take_quantile(values, share) == pytest.approx(float(numpy.quantile(values, share)))


def test_the_interval_says_how_it_came_about() -> None:
    text = describe_interval(summarize(ZIGZAG))
    assert "10 repeats worth 10 independent" in text
    assert "97.9%" in text


# Stopping rules


def make_rule(**changes: float | int | None) -> Repeats:
    settings = {
        "relative_target": 0.03,
        "time_budget_s": 60.0,
        "fixed": None,
        "minimum": 5,
        "maximum": 1000,
    }
    return Repeats(**(settings | changes))  # type: ignore[arg-type]


def count_repeats(rule: Repeats, values: Iterator[float], second_each: float = 0.0) -> int:
    taken: list[float] = []
    while rule.wants_more(taken, len(taken) * second_each):
        taken.append(next(values))
    return len(taken)


def steady() -> Iterator[float]:
    step = 0
    while True:
        yield ZIGZAG[step % 10] / 1000 + 1
        step += 1


def wild() -> Iterator[float]:
    step = 0
    while True:
        yield ZIGZAG[step % 10]
        step += 1


def test_narrow_repeats_stop_at_the_first_look() -> None:
    rule = make_rule()
    assert count_repeats(rule, steady()) == FIRST_LOOK
    assert rule.stopped_by == "interval"


def test_a_fixed_number_is_kept_whatever_the_spread_and_the_time() -> None:
    rule = make_rule(fixed=7, time_budget_s=1.0)
    assert count_repeats(rule, wild(), second_each=5.0) == 7
    assert rule.stopped_by == "fixed"


def test_the_time_budget_stops_after_the_minimum() -> None:
    rule = make_rule(time_budget_s=10.0)
    assert count_repeats(rule, wild(), second_each=1.0) == 10
    assert rule.stopped_by == "time_budget"
    slow = make_rule(time_budget_s=10.0)
    assert count_repeats(slow, wild(), second_each=100.0) == 5


def test_the_maximum_stops_what_never_gets_narrow() -> None:
    rule = make_rule(maximum=33)
    assert count_repeats(rule, wild()) == 33
    assert rule.stopped_by == "maximum"


def test_a_running_rule_has_not_been_stopped() -> None:
    rule = make_rule()
    assert rule.wants_more([1.0], 0.0)
    assert rule.stopped_by is None


def test_the_interval_is_looked_at_only_when_the_number_has_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[int] = []

    def note(values: list[float], _: float) -> bool:
        looks.append(len(values))
        return False

    monkeypatch.setattr("profiling.statistics.is_narrow", note)
    assert count_repeats(make_rule(maximum=200), steady()) == 200
    assert looks == [10, 20, 40, 80, 160]


def test_repeats_that_get_narrow_between_looks_go_on_to_the_next_look() -> None:
    values = ZIGZAG[:7] + [5.5] * 40
    assert is_narrow(values[:17], 0.03) and not is_narrow(values[:10], 0.03)
    assert count_repeats(make_rule(), iter(values)) == 20


def test_a_lucky_short_series_that_is_alike_is_not_trusted() -> None:
    values = [1.0 + 0.0001 * (step // 3) for step in range(10)]
    assert not is_narrow(values, 0.03)


def test_warming_up_ends_when_running_medians_agree() -> None:
    times = [5.0, 3.0, 2.0, 1.5, 1.2] + [1.0] * 40
    settling = Settling(window=5, tolerance=0.02, cap=50)
    taken = count_warm_up(settling, times)
    medians = [float(numpy.median(times[end - 5 : end])) for end in range(taken - 4, taken + 1)]
    assert max(medians) - min(medians) <= 0.02
    assert 9 <= taken < 20
    assert not settling.hit_cap


def test_one_stray_value_does_not_prolong_the_warm_up() -> None:
    calm = [1.0] * 9
    assert count_warm_up(Settling(window=5, tolerance=0.02, cap=50), calm) == 9
    stray = [1.0, 1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0]
    assert count_warm_up(Settling(window=5, tolerance=0.02, cap=50), stray) == 9


def test_warming_up_that_never_settles_hits_the_cap_and_says_so() -> None:
    falling = [100.0 - step for step in range(60)]
    settling = Settling(window=5, tolerance=0.001, cap=30)
    assert count_warm_up(settling, falling) == 30
    assert settling.hit_cap


def count_warm_up(settling: Settling, times: list[float]) -> int:
    taken = 0
    while settling.wants_more(times[:taken]):
        taken += 1
    return taken


# Means with their errors


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.30265), (4, 2.77645), (9, 2.26216), (30, 2.04227), (1000, 1.96234)],
)
def test_student_quantiles_are_those_of_the_table(freedom: int, quantile: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(quantile, rel=1e-5)


def test_mean_of_five_windows_by_hand() -> None:
    estimate = estimate_mean([10.0, 11.0, 9.0, 10.5, 9.5])
    assert estimate.value == 10.0
    assert estimate.standard_error == pytest.approx(math.sqrt(0.625 / 5))
    assert estimate.freedom == 4
    assert estimate.interval.high == pytest.approx(10 + 2.776445 * math.sqrt(0.125), rel=1e-6)
    assert estimate.relative_error == pytest.approx(math.sqrt(0.125) / 10)


def make_estimate(value: float, error: float, freedom: float = 4) -> Estimate:
    return Estimate(value=value, standard_error=error, freedom=freedom)


def test_errors_of_a_difference_add_in_squares() -> None:
    decode = subtract(make_estimate(100.0, 3.0), make_estimate(60.0, 4.0))
    assert (decode.value, decode.standard_error) == (40.0, 5.0)
    assert decode.freedom == pytest.approx(625 / (81 / 4 + 256 / 4))


def test_relative_errors_of_a_ratio_add_in_squares() -> None:
    ratio = divide(make_estimate(50.0, 1.5), make_estimate(100.0, 4.0))
    assert ratio.value == 0.5
    assert ratio.standard_error == pytest.approx(0.5 * 0.05)


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


def test_interval_of_a_ratio_by_hand() -> None:
    interval = bound_ratio([1, 0, 2], [4, 4, 4])
    assert interval is not None
    reach = 4.302653 * math.sqrt(2 * 3 / 2) / 12
    assert interval.low == pytest.approx(0.25 - reach, rel=1e-6)
    assert interval.high == pytest.approx(0.25 + reach, rel=1e-6)


@pytest.mark.parametrize("tops", [[1], [0, 0, 0], [2, 2]])
def test_a_ratio_without_spread_has_no_interval(tops: list[int]) -> None:
    assert bound_ratio(tops, [4] * len(tops)) is None


# Two sets of repeats


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
    mood = [1.0 + 0.05 * step for step in range(20)]
    baseline = [2.0 * m * (1 + z / 1000) for m, z in zip(mood, ZIGZAG * 2, strict=True)]
    assert (compare_speed(baseline, mood).confidence or 0.0) < 0.5
    ratio = compare_pairs(baseline, mood)
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


# Simulated coverage


def make_series(
    trials: int, length: int, likeness: float, noise: float, *, seed: int = 5
) -> list[list[float]]:
    """Rows around a median of 1, successive values alike as in a first-order autoregression."""
    draw = numpy.random.default_rng(seed)
    fresh = draw.standard_normal((trials, length)) * math.sqrt(1 - likeness**2)
    state = draw.standard_normal(trials)
    rows = numpy.empty((trials, length))
    for step in range(length):
        state = likeness * state + fresh[:, step]
        rows[:, step] = state
    return (1 + noise * rows).tolist()


def stop_by_rule(row: list[float]) -> list[float]:
    rule = make_rule(minimum=10, maximum=len(row))
    n = FIRST_LOOK
    while rule.wants_more(row[:n], 0.0):
        n *= 2
    return row[:n]


def measure_coverage(rows: list[list[float]]) -> float:
    """Share of the intervals, as they stand when the rule stops, that hold the true median."""
    intervals = [bound_median(stop_by_rule(row)) for row in rows]
    return sum(found is not None and found.holds(1.0) for found in intervals) / len(rows)


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.1])
def test_coverage_with_independent_noise(noise: float) -> None:
    assert 0.94 <= measure_coverage(make_series(1200, 320, 0.0, noise)) <= 0.99


@pytest.mark.parametrize("noise", [0.02, 0.05])
@pytest.mark.parametrize("likeness", [0.3, 0.5, 0.7])
def test_coverage_with_autocorrelated_noise(likeness: float, noise: float) -> None:
    assert 0.93 <= measure_coverage(make_series(1200, 320, likeness, noise)) <= 0.99


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
@pytest.mark.parametrize("likeness", [0.0, 0.3, 0.5, 0.7])
def test_coverage_with_many_trials(likeness: float, noise: float) -> None:
    rows = make_series(4000, 320, likeness, noise, seed=11)
    assert 0.935 <= measure_coverage(rows) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("likeness", [0.0, 0.5])
def test_coverage_of_the_speed_up(likeness: float) -> None:
    pairs = zip(
        make_series(1500, 320, likeness, 0.05, seed=1),
        make_series(1500, 320, likeness, 0.05, seed=2),
        strict=True,
    )
    ratios = [compare_speed(stop_by_rule(a), stop_by_rule(b)) for a, b in pairs]
    held = [r.low is not None and r.high is not None and r.low <= 1 <= r.high for r in ratios]
    assert 0.93 <= sum(held) / len(held) <= 0.995


@pytest.mark.slow
def test_coverage_with_skewed_noise() -> None:
    rows = numpy.exp(numpy.asarray(make_series(4000, 320, 0.5, 0.2)) - 1).tolist()
    assert 0.935 <= measure_coverage(rows) <= 0.992
