"""Decide which variants are faster than the plain model, which are slower, and which neither.

Only paired comparisons decide: two separate runs differ by the machine's state as well, by an
amount that they do not show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profiling.report.read.plain_runs import BASELINE
from profiling.report.read.runs import Run, find_paired
from profiling.statistics.ratios import Ratio


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """Variants in four groups, each ordered by speed, and the speeds by the run's name.

    A variant is faster or slower only where the interval of its paired comparison excludes the
    baseline's speed, and where the control does not contradict: `repetition`, a variant that is the
    same model again, is measured as equal, or the variant differs by more than it does. `unpaired`
    are the variants without an interval, which nothing is said of.
    """

    plain: Run
    faster: Sequence[Run]
    slower: Sequence[Run]
    unclear: Sequence[Run]
    unpaired: Sequence[Run]
    repetition: Run | None
    speeds: Mapping[str, Ratio]

    @property
    def fastest(self) -> Run | None:
        """The variant whose interval lies above that of every other one."""
        if not self.faster:
            return None
        first, *rest = self.faster
        others = [*rest, *self.unclear, *self.slower]
        highest = max((self.speeds[run.name].high or math.inf for run in others), default=1.0)
        return first if (self.speeds[first.name].low or 0.0) > highest else None


def plain_of(runs: Sequence[Run]) -> Run | None:
    return next((run for run in runs if run["optimization"] == BASELINE), None)


def judge_variants(runs: Sequence[Run]) -> Verdicts | None:
    """The verdicts; None where there is no variant or no plain model."""
    timed = [run for run in runs if (run.number("latency_s") or 0) > 0]
    plain = plain_of(timed)
    others = [run for run in timed if run["optimization"] != BASELINE]
    if plain is None:
        return None
    speeds = {run.name: find_speed(plain, run) for run in others}
    repetition = next((run for run in others if is_plain_again(plain, run)), None)
    variants = [run for run in others if run is not repetition]
    if not variants:
        return None
    variants.sort(key=lambda run: -speeds[run.name].value)
    return _sort_out(plain, variants, repetition, speeds)


def _sort_out(
    plain: Run, variants: Sequence[Run], repetition: Run | None, speeds: Mapping[str, Ratio]
) -> Verdicts:
    stray = _measure_stray(None if repetition is None else speeds[repetition.name])
    judged = [run for run in variants if speeds[run.name].low is not None]
    faster = [run for run in judged if (speeds[run.name].low or 0.0) > stray]
    slower = [run for run in judged if (speeds[run.name].high or math.inf) < 1 / stray]
    decided = {run.name for run in (*faster, *slower)}
    return Verdicts(
        plain=plain,
        faster=faster,
        slower=slower,
        unclear=[run for run in judged if run.name not in decided],
        unpaired=[run for run in variants if speeds[run.name].low is None],
        repetition=repetition,
        speeds=speeds,
    )


def _measure_stray(control: Ratio | None) -> float:
    """By which factor equal models were measured as different; 1 where they were not."""
    if control is None or control.low is None or control.high is None:
        return 1.0
    return 1.0 if control.low <= 1 <= control.high else math.exp(abs(math.log(control.value)))


def is_plain_again(plain: Run, run: Run) -> bool:
    """Whether a variant only sets the dtype that the plain model has anyway."""
    stack = run.record.config.get("optimization")
    chosen = list(stack.values()) if isinstance(stack, Mapping) else []
    only_dtype = len(chosen) == 1 and isinstance(chosen[0], Mapping)
    return only_dtype and chosen[0].get("kind") == "dtype" and run["dtype"] == plain["dtype"]


def find_speed(plain: Run, run: Run) -> Ratio:
    """The plain model's time over the variant's; without an interval where they are not paired."""
    paired = find_paired(plain, run)
    if paired is not None:
        return paired.whole
    value = plain["latency_s"] / run["latency_s"]
    return Ratio(value=value, low=None, high=None, confidence=None)
