"""Summaries of repeats and the reasons for what is missing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from profiling.statistics.summaries import describe_interval, summarize
from tests.statistics.series import ZIGZAG


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
    for name in ("median", "mean", "std", "minimum", "maximum", "p95", "low", "high"):
        assert getattr(summary, name) is None
        assert summary.missing[name]


@given(some.lists(some.floats(0.001, 1000.0), max_size=30))
def test_every_gap_in_a_summary_has_a_reason_and_nothing_else_has(values: list[float]) -> None:
    summary = summarize(values)
    gaps = {name for name, value in vars(summary).items() if value is None}
    assert gaps == set(summary.missing)


@pytest.mark.parametrize(("n", "has_p95"), [(99, False), (100, True)])
def test_the_tail_needs_enough_repeats(n: int, has_p95: bool) -> None:
    summary = summarize([float((7 * step) % n) for step in range(n)])
    assert (summary.p95 is not None) == has_p95
    assert ("p95" in summary.missing) == (not has_p95)


def test_the_interval_says_how_it_came_about() -> None:
    text = describe_interval(summarize(ZIGZAG))
    assert "10 repeats, effective sample size 10" in text
    assert "97.9%" in text
