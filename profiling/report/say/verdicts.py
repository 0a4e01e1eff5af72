"""Tell which variants are faster than the plain model, which are slower, and where none can say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profiling.report.read.plain_runs import BASELINE
from profiling.report.read.runs import Run
from profiling.statistics.intervals import CONFIDENCE, Interval
from profiling.statistics.ratios import Ratio, divide_medians


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Variants in three groups, each from the fastest on, with their speeds by name of the run.

    Faster or slower is only what the intervals of both medians show to be so, and by more than the
    machine changed between two runs of the same thing, where the plain model has such a twin.
    """

    faster: Sequence[Run]
    slower: Sequence[Run]
    unclear: Sequence[Run]
    twin: Run | None
    speeds: Mapping[str, Ratio]


def plain_of(runs: Sequence[Run]) -> Run | None:
    return next((run for run in runs if run["optimization"] == BASELINE), None)


def judge_variants(runs: Sequence[Run]) -> Standing | None:
    """Where the variants stand; None where there is nothing, or nothing to hold it against."""
    held = [run for run in runs if (run.number("latency_s") or 0) > 0]
    plain = plain_of(held)
    others = [run for run in held if run["optimization"] != BASELINE]
    if plain is None:
        return None
    speeds = {run.name: _speed(plain, run) for run in others}
    twin = next((run for run in others if _is_plain_again(plain, run)), None)
    drift = 1.0 if twin is None else math.exp(abs(math.log(speeds[twin.name].value)))
    variants = sorted((r for r in others if r is not twin), key=lambda r: -speeds[r.name].value)
    if not variants:
        return None
    faster = [run for run in variants if _is_above(speeds[run.name].low, drift)]
    slower = [run for run in variants if _is_below(speeds[run.name].high, 1 / drift)]
    told = {run.name for run in (*faster, *slower)}
    unclear = [run for run in variants if run.name not in told]
    return Standing(faster=faster, slower=slower, unclear=unclear, twin=twin, speeds=speeds)


def _is_plain_again(plain: Run, run: Run) -> bool:
    """Whether a variant asks for nothing but the dtype that the plain model has by itself."""
    stack = run.record.config.get("optimization")
    chosen = list(stack.values()) if isinstance(stack, Mapping) else []
    only_dtype = len(chosen) == 1 and isinstance(chosen[0], Mapping)
    return only_dtype and chosen[0].get("kind") == "dtype" and run["dtype"] == plain["dtype"]


def _speed(plain: Run, run: Run) -> Ratio:
    over, under = plain["latency_s"], run["latency_s"]
    return divide_medians(over, _within(plain), under, _within(run))


def _within(run: Run) -> Interval | None:
    low, high = run.number("latency_ci_low_s"), run.number("latency_ci_high_s")
    if low is None or high is None or not 0 < low <= high:
        return None
    return Interval(low=low, high=high, confidence=CONFIDENCE)


def _is_above(low: float | None, least: float) -> bool:
    return low is not None and low > least


def _is_below(high: float | None, most: float) -> bool:
    return high is not None and high < most
