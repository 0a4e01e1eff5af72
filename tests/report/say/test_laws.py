"""Laws of growth in words."""

from __future__ import annotations

from dataclasses import replace

from profiling.report.say.laws import describe_growth
from profiling.statistics.growth import HIGHEST_POWER, LOWEST_POWER, Growth

GROWTH = Growth(
    fixed=0.1,
    slope=0.01,
    power=1.25,
    power_low=1.1,
    power_high=1.5,
    r_squared=0.9876,
    points=5,
    is_power_law=True,
    smallest_exponent=0.4,
    largest_exponent=1.2,
)


def test_a_law_shows_its_power_with_the_interval() -> None:
    assert describe_growth(GROWTH, "tokens") == "tokens^1.25 [1.10, 1.50], R² 0.988"


def test_bounds_at_the_ends_of_the_search_are_open() -> None:
    low = replace(GROWTH, power_low=LOWEST_POWER)
    assert "[≤0.1, 1.50]" in describe_growth(low, "tokens")
    high = replace(GROWTH, power_high=HIGHEST_POWER)
    assert "[1.10, ≥4.0]" in describe_growth(high, "tokens")


def test_what_is_no_power_law_shows_how_it_grows_at_both_ends() -> None:
    text = describe_growth(replace(GROWTH, is_power_law=False), "tokens")
    assert text == (
        "no single power of tokens fits: the whole grows as tokens^0.40 at the smallest sizes "
        "and as tokens^1.20 at the largest"
    )


def test_what_fits_every_power_has_no_law() -> None:
    open_ended = replace(GROWTH, power_low=LOWEST_POWER, power_high=HIGHEST_POWER)
    assert "cannot be told from 5 points" in describe_growth(open_ended, "tokens")
