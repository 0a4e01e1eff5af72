"""Numbers for people: known renderings, and nothing that is not a number."""

from __future__ import annotations

import math

import pytest

from profiling.report.say.units import (
    NOTHING,
    difference,
    interval,
    percent,
    quantity,
    say_ratio,
    signed,
    times,
)
from profiling.statistics.intervals import CONFIDENCE, Interval
from profiling.statistics.ratios import Ratio


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (1.0, "s", "1.00 s"),
        (95.6, "s", "95.6 s"),
        (4.5e-7, "s", "450 ns"),
        (0.0, "s", "0 s"),
        (6.1e11, "FLOP", "610 GFLOP"),
        (1536, "bytes", "1.50 KiB"),
        (3 * 2**30, "bytes", "3.00 GiB"),
        (129.2, "J", "129 J"),
        (0.25, "1", "0.250"),
        (1234.5, "1/s", "1234 /s"),
        (None, "s", NOTHING),
        (math.nan, "s", NOTHING),
        (math.inf, "J", NOTHING),
        (True, "1", NOTHING),
    ],
)
def test_quantities(value: object, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_an_interval_shares_the_unit_of_its_value() -> None:
    bounds = Interval(low=0.95, high=1.05, confidence=CONFIDENCE)
    assert interval(0.9999, bounds, "s") == "1000 [950, 1050] ms"
    assert interval(0.5, None, "s") == "500 ms"


def test_an_interval_is_not_called_more_certain_than_it_is() -> None:
    bounds = Interval(low=0.95, high=1.05, confidence=0.949)
    assert interval(1.0, bounds, "s") == "1.00 [0.950, 1.05] s (94% interval)"


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.951, 1.04, "1.03× [0.951, 1.04]"),
        (1.012, 1.04, "1.03× [1.01, 1.04]"),
        # A ratio that is called faster must not be shown with an interval that holds 1.
        (1.0021, 1.04, "1.0300× [1.0021, 1.0400]"),
        (0.9, 0.99981, "1.0300× [0.9000, 0.9998]"),
        (1.00002, 1.04, "1.03000× [1.00002, 1.04000]"),
        (0.9981, 1.0021, "1.03× [0.998, 1.00]"),
    ],
)
def test_the_ends_of_a_ratio_stay_on_their_side_of_one(low: float, high: float, shown: str) -> None:
    assert say_ratio(Ratio(value=1.03, low=low, high=high, confidence=CONFIDENCE)) == shown


def test_shares_and_ratios() -> None:
    assert percent(0.314) == "31%"
    assert times(2) == "2.00\N{MULTIPLICATION SIGN}"
    assert percent(None) == times(None) == NOTHING


@pytest.mark.parametrize(
    ("share", "text"),
    [
        # One of 300 answers differs, or one of 300 agrees.
        (299 / 300, "99.7%"),
        (1 / 300, "0.3%"),
        (0.99996, "99.996%"),
        (-0.004, "-0.4%"),
        (1.0, "100%"),
        (1 - 1e-15, "100%"),
        (0.0, "0%"),
        (-0.0, "0%"),
        (1e-15, "0%"),
        (1.004, "100.4%"),
        (8.45, "845%"),
    ],
)
def test_a_share_is_not_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("value", "change", "score"),
    [
        (0.05, "+5.0%", "+0.050"),
        (0.0002, "+0.02%", "+0.0002"),
        (-0.0004, "-0.04%", "-0.0004"),
        (-1e-16, "+0.0%", "+0.000"),
        (0.0, "+0.0%", "+0.000"),
        (-1004.628, "-100462.8%", "-1004.628"),
    ],
)
def test_a_change_has_a_digit_that_shows_its_sign(value: float, change: str, score: str) -> None:
    assert signed(value) == change
    assert difference(value) == score
