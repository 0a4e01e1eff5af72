"""Whether the level of a series changes while it is measured: a step, or a trend that fades."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import fmean, median
from typing import Literal

from profiling.statistics.autocorrelation import (
    LARGEST_AUTOCORRELATION,
    estimate_autocorrelation,
    rank_values,
)
from profiling.statistics.intervals import Interval

LEAST_VALUES = 12
# Of a slope over its error. The best of many shapes is looked for, so two would be found in noise:
# four is exceeded in under 1% of independent series (the tests simulate it).
LEAST_STRENGTH = 4.0
# A smaller relative change does not matter beside the width that intervals are asked to have.
LEAST_CHANGE = 0.02
# Time constants of a fading trend, as shares of the series; the last is nearly a straight line.
FADING = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 3.0)
# Of these, the longest of which next to nothing (2%) is left at the end.
LONGEST_FADED = 1 / 4


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A change of level that the noise of a series does not explain."""

    kind: Literal["step", "trend"]
    change: float  # relative to the level at the beginning
    at: int | None  # index of the first value after a step; None for a trend
    strength: float
    fading: float | None = None  # time constant of a trend, as a share of the series


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """How a level may change: centred, of length one."""

    at: int | None
    heights: tuple[float, ...]
    fading: float | None = None


def find_drift(values: Sequence[float]) -> Drift | None:
    """The clearest step or fading trend; None where there is none, or too few values to tell.

    Each shape is fitted to the ranks, so that single outliers do not matter. The error of its
    slope is that of autocorrelated residuals, so that a series with a memory is not taken for one
    that drifts.
    """
    if len(values) < LEAST_VALUES or len(set(values)) < 2:
        return None
    ranks = rank_values(values)
    centre = fmean(ranks)
    centred = [rank - centre for rank in ranks]
    shape = max(_list_shapes(centred), key=lambda shape: abs(_project(centred, shape)))
    strength = _measure_strength(centred, shape)
    change = _measure_change(values, shape.at)
    if strength < LEAST_STRENGTH or abs(change) < LEAST_CHANGE:
        return None
    kind: Literal["step", "trend"] = "trend" if shape.at is None else "step"
    return Drift(kind=kind, change=change, at=shape.at, strength=strength, fading=shape.fading)


def _list_shapes(centred: Sequence[float]) -> Iterator[_Shape]:
    """The step that fits best, and every trend."""
    size = len(centred)
    yield _make_step(size, _find_step(centred))
    for share in FADING:
        heights = [math.exp(-i / (share * size)) for i in range(size)]
        yield replace(_normalize(heights, None), fading=share)


def _find_step(centred: Sequence[float]) -> int:
    """Where a step leaves the least residual, by the sums of all that comes before."""
    size, shortest = len(centred), max(3, len(centred) // 10)
    sums = [0.0, *accumulate(centred)]
    return max(
        range(shortest, size - shortest + 1),
        key=lambda at: abs(sums[at]) / math.sqrt(at * (size - at)),
    )


def _make_step(size: int, at: int) -> _Shape:
    return _normalize([float(i >= at) for i in range(size)], at)


def _normalize(heights: Sequence[float], at: int | None) -> _Shape:
    centre = fmean(heights)
    length = math.sqrt(math.fsum((height - centre) ** 2 for height in heights))
    return _Shape(at=at, heights=tuple((height - centre) / length for height in heights))


def _project(centred: Sequence[float], shape: _Shape) -> float:
    return math.fsum(a * b for a, b in zip(centred, shape.heights, strict=True))


def _measure_strength(centred: Sequence[float], shape: _Shape) -> float:
    """The slope over its error; infinite where the shape leaves no residual."""
    size, slope = len(centred), _project(centred, shape)
    rest = [a - slope * b for a, b in zip(centred, shape.heights, strict=True)]
    spread = math.fsum(value**2 for value in rest) / (size - 3)
    if spread <= 1e-12 * slope**2:
        return math.inf
    raised = estimate_autocorrelation(rest) + 1 / math.sqrt(size)
    correlation = min(LARGEST_AUTOCORRELATION, max(0.0, raised))
    return abs(slope) / math.sqrt(spread * (1 + correlation) / (1 - correlation))


def _measure_change(values: Sequence[float], at: int | None) -> float:
    """Medians after and before a step; of the last and the first eighth for a trend."""
    end = max(3, len(values) // 8)
    before, after = (values[:end], values[-end:]) if at is None else (values[:at], values[at:])
    level = median(before)
    return median(after) / level - 1 if level else 0.0


def leads_out_of(drift: Drift, values: Sequence[float], interval: Interval) -> bool:
    """Whether the level that a series drifts to may not be within an interval of its median.

    The interval is then right of what was measured and wrong of what comes next: after a step that
    leads out of it, and where a trend has not faded at the end, so that nobody knows where to.
    """
    if drift.fading is not None and drift.fading > LONGEST_FADED:
        return True
    first = len(values) * 3 // 4 if drift.at is None else drift.at
    return not interval.holds(median(values[first:]))


def describe_drift(drift: Drift) -> str:
    direction = "up" if drift.change > 0 else "down"
    if drift.at is None:
        return f"drifts {direction} by {abs(drift.change):.0%} from the first repeats to the last"
    return f"steps {direction} by {abs(drift.change):.0%} at repeat {drift.at + 1}"
