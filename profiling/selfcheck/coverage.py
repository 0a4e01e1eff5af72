"""Whether 95% intervals hold the truth as often as they say, by simulation with a known truth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy

from profiling.selfcheck.finding import Finding, judge
from profiling.statistics.means import bound_share
from profiling.statistics.medians import bound_median
from profiling.statistics.stopping import FIRST_LOOK, Repeats

LOWEST, HIGHEST = 0.93, 0.99
NOISE = 0.05
# Of one repeat with the one before: none, and as on a machine that drifts.
AUTOCORRELATIONS = (0.0, 0.5)
LONGEST = 320
SEED = 5


def check_coverage(settings: Mapping[str, Any], *, trials: int) -> Iterator[Finding]:
    """With the stopping rule on, as a latency probe uses it."""
    for autocorrelation in AUTOCORRELATIONS:
        rows = draw_series(trials, autocorrelation)
        held = sum(_holds(row, settings) for row in rows)
        # So many trials can be lucky or unlucky: off is what no luck explains.
        spread = bound_share(held, trials)
        yield judge(
            f"intervals: hold the truth, autocorrelation {autocorrelation:g}",
            expected=f"{LOWEST:.0%} to {HIGHEST:.0%}",
            found=f"{held / trials:.1%} of {trials}",
            right=spread.high >= LOWEST and spread.low <= HIGHEST,
        )


def draw_series(trials: int, autocorrelation: float) -> list[list[float]]:
    """Rows around a median of 1 with the noise of a first-order autoregression."""
    draw = numpy.random.default_rng(SEED)
    fresh = draw.standard_normal((trials, LONGEST)) * math.sqrt(1 - autocorrelation**2)
    state = draw.standard_normal(trials)
    rows = numpy.empty((trials, LONGEST))
    for step in range(LONGEST):
        state = autocorrelation * state + fresh[:, step]
        rows[:, step] = state
    return (1 + NOISE * rows).tolist()  # type: ignore[no-any-return]


def _holds(row: list[float], settings: Mapping[str, Any]) -> bool:
    interval = bound_median(_stop(row, settings))
    return interval is not None and interval.holds(1.0)


def _stop(row: list[float], settings: Mapping[str, Any]) -> list[float]:
    rule = Repeats(
        relative_target=settings["relative_target"],
        time_budget_s=math.inf,
        fixed=None,
        minimum=FIRST_LOOK,
        maximum=LONGEST,
    )
    n = FIRST_LOOK
    while rule.wants_more(row[:n], 0.0):
        n *= 2
    return row[:n]
