"""How often 95% intervals miss the truth, by simulation with noise as machines make it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy

from profiling.selfcheck.finding import Finding, judge
from profiling.selfcheck.noise_shapes import SHAPES, Size
from profiling.statistics.intervals import CONFIDENCE
from profiling.statistics.means import bound_share
from profiling.statistics.medians import bound_median
from profiling.statistics.stopping import FIRST_LOOK, Repeats

# Of all runs, the share that may state a 95% interval without the truth in it; and the least
# share with independent noise, since intervals that never miss are too wide.
MOST_WRONG, LEAST_WRONG = 0.07, 0.01
NOISE = 0.05
LONGEST = 320
SEED = 5


def check_coverage(settings: Mapping[str, Any], *, trials: int) -> Iterator[Finding]:
    """With the stopping rule on, as a latency probe uses it.

    The truth is the median of this process in this stretch of time: changes that are slower than
    the stretch are not in it.
    """
    for name in SHAPES:
        wrong = sum(count_wrong(name, settings, trials=trials, noise=NOISE))
        # So many trials can be lucky or unlucky: off is what no luck explains.
        spread = bound_share(wrong, trials)
        least = LEAST_WRONG if name == "independent" else 0.0
        yield judge(
            f"intervals: miss the truth, {name}",
            expected=f"{least:.0%} to {MOST_WRONG:.0%}",
            found=f"{wrong / trials:.1%} of {trials}",
            right=spread.high >= least and spread.low <= MOST_WRONG,
        )


def count_wrong(
    name: str,
    settings: Mapping[str, Any],
    *,
    trials: int,
    noise: float,
    longest: int = LONGEST,
    seed: int = SEED,
) -> Iterator[bool]:
    """For each run, whether it states a 95% interval that misses the median of the stretch."""
    size = Size(trials=trials, length=longest, noise=noise)
    series = SHAPES[name](numpy.random.default_rng(seed), size)
    for trial, row in enumerate(series.values.tolist()):
        kept = stop(row, settings)
        yield is_wrong(kept, series.median_of_stretch(trial, len(kept)))


def is_wrong(values: Sequence[float], truth: float) -> bool:
    interval = bound_median(values)
    return interval is not None and interval.confidence >= CONFIDENCE and not interval.holds(truth)


def stop(row: list[float], settings: Mapping[str, Any]) -> list[float]:
    """The values that the stopping rule keeps of a row."""
    rule = Repeats(
        relative_target=settings["relative_target"],
        time_budget_s=math.inf,
        fixed=None,
        minimum=FIRST_LOOK,
        maximum=len(row),
    )
    n = FIRST_LOOK
    while rule.wants_more(row[:n], 0.0):
        n *= 2
    return row[:n]
