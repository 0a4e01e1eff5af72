"""When repeating and warming up end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy
import pytest

from profiling.statistics.stopping import FIRST_LOOK, Repeats, Settling, is_narrow
from tests.statistics.series import ZIGZAG, make_rule


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


def test_narrow_repeats_stop_at_a_look() -> None:
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
    assert count_repeats(make_rule(time_budget_s=10.0), wild(), second_each=100.0) == 5


def test_where_a_pass_outlasts_the_time_budget_two_are_taken() -> None:
    rule = make_rule(time_budget_s=30.0, minimum=10)
    assert count_repeats(rule, iter([60.0] * 20), second_each=60.0) == 2
    assert rule.stopped_by == "a pass that outlasts the time budget"
    fixed = make_rule(time_budget_s=30.0, fixed=4)
    assert count_repeats(fixed, iter([60.0] * 20), second_each=60.0) == 4


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

    monkeypatch.setattr("profiling.statistics.stopping.is_narrow", note)
    assert count_repeats(make_rule(maximum=200), steady()) == 200
    assert looks == [10, 20, 40, 80, 160]


def test_repeats_that_get_narrow_between_looks_go_on_to_the_next_look() -> None:
    values = ZIGZAG[:7] + [5.5] * 40
    assert is_narrow(values[:17], 0.03) and not is_narrow(values[:10], 0.03)
    assert count_repeats(make_rule(), iter(values)) == 20


def test_a_short_autocorrelated_series_is_not_trusted() -> None:
    values = [1.0 + 0.0001 * (step // 3) for step in range(10)]
    assert not is_narrow(values, 0.03)


def test_warming_up_ends_when_running_medians_agree() -> None:
    times = [5.0, 3.0, 2.0, 1.5, 1.2] + [1.0] * 40
    settling = make_settling()
    taken = count_warm_up(settling, times)
    medians = [float(numpy.median(times[end - 5 : end])) for end in range(taken - 4, taken + 1)]
    assert max(medians) - min(medians) <= 0.02
    assert 9 <= taken < 20
    assert settling.stopped_by == "settled"


def test_one_stray_value_does_not_prolong_the_warm_up() -> None:
    calm = [1.0] * 9
    assert count_warm_up(make_settling(), calm) == 9
    stray = [1.0, 1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0]
    assert count_warm_up(make_settling(), stray) == 9


def test_warming_up_that_never_settles_hits_the_cap_and_says_so() -> None:
    falling = [100.0 - step for step in range(60)]
    settling = make_settling(tolerance=0.001, cap=30, time_budget_s=1e6)
    assert count_warm_up(settling, falling) == 30
    assert settling.stopped_by == "cap"


def test_warming_up_is_bounded_by_the_time_budget() -> None:
    settling = make_settling(time_budget_s=30.0)
    assert count_warm_up(settling, [60.0] * 50) == 1
    assert settling.stopped_by == "time_budget"
    assert count_warm_up(settling, [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]) == 4


def make_settling(
    *, tolerance: float = 0.02, cap: int = 50, time_budget_s: float = 1000.0
) -> Settling:
    return Settling(window=5, tolerance=tolerance, cap=cap, time_budget_s=time_budget_s)


def count_warm_up(settling: Settling, times: list[float]) -> int:
    taken = 0
    while settling.wants_more(times[:taken]):
        taken += 1
    return taken
