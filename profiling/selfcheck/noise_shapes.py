"""Made-up series of repeats with noise as machines make it, and a median that is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy

Draw = numpy.random.Generator
Array = Any  # of numpy, trials by repeats
# Quantiles of the quick noise, where the median of a stretch of levels is wanted.
_QUICK = numpy.array([NormalDist().inv_cdf((i + 0.5) / 101) for i in range(101)])


@dataclass(frozen=True, kw_only=True)
class Series:
    """Values around a median that is 1 in the long run.

    `levels` is the median of each pass: 1 throughout where only the long run counts, else with the
    slow part of the noise, around which passes spread by `quick`.
    """

    values: Array
    levels: Array
    quick: float

    def median_of_stretch(self, trial: int, length: int) -> float:
        """The median of the passes that the first `length` levels stand for."""
        levels = self.levels[trial, :length]
        if (levels == 1).all():
            return 1.0
        return float(numpy.median(levels[:, None] + self.quick * _QUICK[None, :]))


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many series, how long, and the relative size of their noise."""

    trials: int
    length: int
    noise: float

    @property
    def both(self) -> tuple[int, int]:
        return self.trials, self.length


Shape = Callable[[Draw, Size], Series]


def _around(levels: Array, quick: float, draw: Draw) -> Series:
    values = levels + quick * draw.standard_normal(levels.shape)
    return Series(values=values, levels=levels, quick=quick)


def _in_the_long_run(noise: Array, size: Size) -> Series:
    return Series(values=1 + size.noise * noise, levels=numpy.ones(size.both), quick=size.noise)


def _draw_independent(draw: Draw, size: Size) -> Series:
    return _in_the_long_run(draw.standard_normal(size.both), size)


def _draw_autoregression(draw: Draw, size: Size, *, correlation: float) -> Series:
    return _in_the_long_run(_autoregress(draw, size, correlation), size)


def _autoregress(draw: Draw, size: Size, correlation: float) -> Array:
    fresh = draw.standard_normal(size.both) * math.sqrt(1 - correlation**2)
    state = draw.standard_normal(size.trials)
    values = numpy.empty(size.both)
    for step in range(size.length):
        state = correlation * state + fresh[:, step]
        values[:, step] = state
    return values


def _draw_slow(draw: Draw, size: Size) -> Series:
    """Half of the variance changes with a time constant of 20 passes, half from pass to pass."""
    part = math.sqrt(0.5) * size.noise
    return _around(1 + part * _autoregress(draw, size, 0.95), part, draw)


def _draw_modes(draw: Draw, size: Size, *, stay: float) -> Series:
    """Two modes: the fast one lasts `stay` passes in the mean, the slow one half as long."""
    gap, quick = 3.0 * size.noise, 0.4 * size.noise
    is_slow = draw.random(size.trials) < 1 / 3
    levels = numpy.empty(size.both)
    for step in range(size.length):
        chance = draw.random(size.trials)
        is_slow = numpy.where(is_slow, chance >= 2 / stay, chance < 1 / stay)
        levels[:, step] = gap * is_slow
    # Two thirds of the passes are fast: their median is the third quartile of the fast mode.
    return _around(1 + levels - quick * NormalDist().inv_cdf(0.75), quick, draw)


def _draw_warmup(draw: Draw, size: Size) -> Series:
    """What is left of a slow warm-up: 22% at first, with a time constant of 30 passes."""
    rest = 0.22 * numpy.exp(-numpy.arange(size.length) / 30)
    return _in_the_long_run(rest / size.noise + draw.standard_normal(size.both), size)


def _draw_outliers(draw: Draw, size: Size) -> Series:
    """Independent passes, of which one in twenty takes far longer."""
    late = draw.random(size.both) < 0.05
    median = NormalDist().inv_cdf(0.5 / 0.95)
    quick = draw.standard_normal(size.both) - median
    return _in_the_long_run(quick + late * draw.exponential(20.0, size.both), size)


SHAPES: Mapping[str, Shape] = {
    "independent": _draw_independent,
    "outliers": _draw_outliers,
    "autoregression of 0.5": partial(_draw_autoregression, correlation=0.5),
    "autoregression of 0.8": partial(_draw_autoregression, correlation=0.8),
    "slow changes": _draw_slow,
    "two modes": partial(_draw_modes, stay=40.0),
    "two modes, quick": partial(_draw_modes, stay=8.0),
    "slow warm-up": _draw_warmup,
}
