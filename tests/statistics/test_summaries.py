"""Summaries of repeats and the reasons for what is missing."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as some

from profiling.selfcheck.noise_shapes import SHAPES, Size
from profiling.statistics.intervals import CONFIDENCE
from profiling.statistics.medians import bound_median
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


def decay(length: int, noise: float, *, seed: int, constant: float = 30.0) -> list[float]:
    """30% that fade from the ninth pass on, as a warm-up leaves them."""
    draw = numpy.random.default_rng(seed)
    rest = 0.3 * numpy.exp(-(numpy.arange(length) + 4) / constant)
    return (1 + rest + noise * draw.standard_normal(length)).tolist()


@pytest.mark.parametrize(("length", "noise"), [(20, 0.005), (40, 0.01), (40, 0.03)])
def test_a_trend_that_has_not_faded_has_no_interval(length: int, noise: float) -> None:
    found = [summarize(decay(length, noise, seed=seed)) for seed in range(40)]
    stated = [s for s in found if s.low is not None and (s.confidence or 0) >= CONFIDENCE]
    assert sum(s.low > 1.0 for s in stated if s.low is not None) <= 2
    reasons = [s.missing["low"] for s in found if s.low is None]
    assert sum("drifts down by" in reason for reason in reasons) >= 20


def test_a_trend_that_has_faded_keeps_its_interval() -> None:
    for seed in range(10):
        summary = summarize(decay(640, 0.02, seed=seed))
        assert summary.low is not None and summary.high is not None
        assert summary.low <= 1.005


def test_throttling_that_leads_out_of_the_interval_leaves_none() -> None:
    draw = numpy.random.default_rng(1)
    values = (1 + 0.25 * (numpy.arange(40) >= 34) + 0.005 * draw.standard_normal(40)).tolist()
    summary = summarize(values)
    assert summary.low is None
    assert "steps up by 25% at repeat 3" in summary.missing["low"]
    assert summary.median is not None


@pytest.mark.parametrize("name", ["independent", "outliers", "autoregression of 0.8"])
def test_noise_keeps_its_interval(name: str) -> None:
    size = Size(trials=200, length=40, noise=0.05)
    rows = SHAPES[name](numpy.random.default_rng(4), size).values.tolist()
    refused = [r for r in rows if bound_median(r) is not None and summarize(r).low is None]
    assert len(refused) <= 4
