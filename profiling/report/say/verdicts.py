"""Decide which variants are faster than the plain model, which are slower, and which neither."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profiling.report.read.plain_runs import BASELINE
from profiling.report.read.runs import Run
from profiling.statistics.intervals import CONFIDENCE, Interval
from profiling.statistics.ratios import Ratio, divide_medians


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """Variants in three groups, each ordered by speed, and the speeds by the run's name.

    A variant is faster or slower only where the intervals of both medians show it, and by more than
    the drift between the plain model and `repetition`, a variant that is the same model again.
    """

    faster: Sequence[Run]
    slower: Sequence[Run]
    unclear: Sequence[Run]
    repetition: Run | None
    speeds: Mapping[str, Ratio]


def plain_of(runs: Sequence[Run]) -> Run | None:
    return next((run for run in runs if run["optimization"] == BASELINE), None)


def judge_variants(runs: Sequence[Run]) -> Verdicts | None:
    """The verdicts; None where there is no variant or no plain model."""
    timed = [run for run in runs if (run.number("latency_s") or 0) > 0]
    plain = plain_of(timed)
    others = [run for run in timed if run["optimization"] != BASELINE]
    if plain is None:
        return None
    speeds = {run.name: _speed(plain, run) for run in others}
    repetition = next((run for run in others if _is_plain_again(plain, run)), None)
    drift = 1.0
    if repetition is not None:
        drift = math.exp(abs(math.log(speeds[repetition.name].value)))
    variants = [run for run in others if run is not repetition]
    variants.sort(key=lambda run: -speeds[run.name].value)
    if not variants:
        return None
    faster = [run for run in variants if _is_above(speeds[run.name].low, drift)]
    slower = [run for run in variants if _is_below(speeds[run.name].high, 1 / drift)]
    decided = {run.name for run in (*faster, *slower)}
    return Verdicts(
        faster=faster,
        slower=slower,
        unclear=[run for run in variants if run.name not in decided],
        repetition=repetition,
        speeds=speeds,
    )


def _is_plain_again(plain: Run, run: Run) -> bool:
    """Whether a variant only sets the dtype that the plain model has anyway."""
    stack = run.record.config.get("optimization")
    chosen = list(stack.values()) if isinstance(stack, Mapping) else []
    only_dtype = len(chosen) == 1 and isinstance(chosen[0], Mapping)
    return only_dtype and chosen[0].get("kind") == "dtype" and run["dtype"] == plain["dtype"]


def _speed(plain: Run, run: Run) -> Ratio:
    over, under = plain["latency_s"], run["latency_s"]
    return divide_medians(over, _interval_of(plain), under, _interval_of(run))


def _interval_of(run: Run) -> Interval | None:
    low, high = run.bounds("latency_s")
    if low is None or high is None or not 0 < low <= high:
        return None
    return Interval(low=low, high=high, confidence=CONFIDENCE)


def _is_above(low: float | None, least: float) -> bool:
    return low is not None and low > least


def _is_below(high: float | None, most: float) -> bool:
    return high is not None and high < most
