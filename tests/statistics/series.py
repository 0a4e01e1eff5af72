"""Series of repeats that are made up, and the stopping rule over them."""

from __future__ import annotations

import math

import numpy
from hypothesis import strategies as some

from profiling.statistics.stopping import FIRST_LOOK, Repeats

TIMES = some.lists(some.floats(0.001, 1000.0), min_size=6, max_size=60)
FEW_TIMES = some.lists(some.floats(0.001, 1000.0), min_size=1, max_size=30)
ZIGZAG = [1.0, 10.0, 2.0, 9.0, 3.0, 8.0, 4.0, 7.0, 5.0, 6.0]


def make_series(
    trials: int, length: int, correlation: float, noise: float, *, seed: int = 5
) -> list[list[float]]:
    """Rows around a median of 1, autocorrelated as in a first-order autoregression."""
    draw = numpy.random.default_rng(seed)
    fresh = draw.standard_normal((trials, length)) * math.sqrt(1 - correlation**2)
    state = draw.standard_normal(trials)
    rows = numpy.empty((trials, length))
    for step in range(length):
        state = correlation * state + fresh[:, step]
        rows[:, step] = state
    return (1 + noise * rows).tolist()


def make_rule(**changes: float | int | None) -> Repeats:
    settings = {
        "relative_target": 0.03,
        "time_budget_s": 60.0,
        "fixed": None,
        "minimum": 5,
        "maximum": 1000,
    }
    return Repeats(**(settings | changes))  # type: ignore[arg-type]


def stop_by_rule(row: list[float]) -> list[float]:
    rule = make_rule(minimum=10, maximum=len(row))
    n = FIRST_LOOK
    while rule.wants_more(row[:n], 0.0):
        n *= 2
    return row[:n]
