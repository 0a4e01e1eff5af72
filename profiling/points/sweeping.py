"""How many points a sweep has, counted before its values are listed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep

from profiling.errors import ConfigError
from profiling.points.options import describe_options, is_group, list_options

MOST_POINTS = 10_000


def check_sweeps(overrides: Iterable[Override]) -> None:
    """Refuse sweeps without values, those that no sweep of ours can have, and far too many."""
    total = 1
    for override in overrides:
        total *= _count_values(override)
        if total > MOST_POINTS:
            counted = f"it makes {total} points or more"
            raise _refuse(override, f"{counted}; allowed are at most {MOST_POINTS} in a sweep")


def list_values(arguments: Sequence[str]) -> dict[str, list[str]]:
    """The values of each key, where a list is values to take in turn; the last one typed counts."""
    overrides = OverridesParser.create().parse_overrides(list(arguments))
    check_sweeps(overrides)
    values: dict[str, list[str]] = {}
    for override in overrides:
        key, line = override.get_key_element(), str(override.input_line)
        if isinstance(override.value(), Glob):
            raise _refuse(override, "allowed are values")
        if override.is_sweep_override() and override.is_discrete_sweep():
            (jobs,) = BasicSweeper.split_arguments([override], None)
            values[key] = [one.partition("=")[2] for (one,) in jobs]
        else:
            values[key] = [line.partition("=")[2]]
    return values


def _count_values(override: Override) -> int:
    if not override.is_sweep_override():
        return 1
    sweep: object = override.value()
    if isinstance(sweep, ChoiceSweep):
        return len(sweep.list)
    if isinstance(sweep, RangeSweep):
        return _count_range(override, sweep)
    if isinstance(sweep, Glob) and is_group(override.key_or_group):
        return _count_options(override, sweep)
    raise _refuse(override, "allowed are values, or range(start,stop); glob is for groups")


def _count_options(override: Override, sweep: Glob) -> int:
    count = len(sweep.filter(list_options(override.key_or_group)))
    if count == 0:
        raise _refuse(override, describe_options(override.key_or_group))
    return count


def _count_range(override: Override, sweep: RangeSweep) -> int:
    start, stop, step = sweep.start, sweep.stop, sweep.step or 0
    assert start is not None and stop is not None
    # Also true of a step of 0 or nan, and of limits that are no numbers.
    if not (stop - start) * step > 0 or math.isinf(stop - start):
        raise _refuse(override, "there is no value in it; allowed is range(start,stop,step)")
    return math.ceil((stop - start) / step)


def _refuse(override: Override, allowed: str) -> ConfigError:
    key, _, value = str(override.input_line).partition("=")
    return ConfigError(key, value, allowed)
