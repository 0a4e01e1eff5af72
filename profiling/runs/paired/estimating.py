"""From the times of launches to the figures of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

from profiling.records import Compared
from profiling.runs.paired.passes import TOTAL
from profiling.runs.paired.turns import Launch
from profiling.statistics.launches import Launches
from profiling.statistics.ratios import Logs, take_logs

# What is left when the phases are taken off the whole was marked by nobody.
_UNMARKED = "other"


def take_launch_logs(launches: Sequence[Launch], phase: str) -> list[Logs]:
    """The log ratios of the pairs of each launch."""
    return [
        take_logs(launch.sides["a"].times_s[phase], launch.sides["b"].times_s[phase])
        for launch in launches
    ]


def compare_phase(launches: Sequence[Launch], phase: str, rule: Launches) -> Compared:
    found = rule.compare(take_launch_logs(launches, phase))
    a_s, b_s = (
        median(median(launch.sides[side].times_s[phase]) for launch in launches) for side in "ab"
    )
    return Compared(
        ratio=found.value,
        ci_low=found.low,
        ci_high=found.high,
        launches=found.launches,
        pairs=found.pairs,
        between_launch_sd=found.between_launch_sd,
        within_launch_sd=found.within_launch_sd,
        a_median_s=a_s,
        b_median_s=b_s,
    )


def find_phases(launches: Sequence[Launch]) -> tuple[list[str], dict[str, str]]:
    """The phases that can be compared, and the others with the reason."""
    logs = [launch.sides[side] for launch in launches for side in "ab"]
    seen = dict.fromkeys(phase for log in logs for phase in log.times_s)
    left_out: dict[str, str] = {}
    for phase in seen:
        if not all(phase in log.times_s for log in logs):
            left_out[phase] = "one side does not mark it"
        elif not all(seconds > 0 for log in logs for seconds in log.times_s[phase]):
            left_out[phase] = "took no time in some passes"
    compared = [one for one in seen if one not in (*left_out, TOTAL, _UNMARKED)]
    return compared, {phase: why for phase, why in left_out.items() if phase != _UNMARKED}


def describe_launch(launch: Launch, phases: Sequence[str]) -> dict[str, Any]:
    """What is needed of a launch to compute the comparison again."""
    return {
        "number": launch.number,
        "pairs": launch.pairs,
        "first": launch.first,
        "interleaved": launch.interleaved,
        "start_s": launch.start_s,
        "took_s": launch.took_s,
        "started_at": launch.started_at,
        "warmup": {side: len(log.warmup) for side, log in launch.sides.items()},
        "idle_share": {side: log.idle_share for side, log in launch.sides.items()},
        "noise": launch.noise,
        **_describe_phase(launch, TOTAL),
        "phases": {phase: _describe_phase(launch, phase) for phase in phases},
    }


def _describe_phase(launch: Launch, phase: str) -> Mapping[str, float | None]:
    (logs,) = take_launch_logs([launch], phase)
    return {
        "mean_log_ratio": fmean(logs),
        "sd_log_ratio": stdev(logs) if len(logs) > 1 else None,
        "a_median_s": median(launch.sides["a"].times_s[phase]),
        "b_median_s": median(launch.sides["b"].times_s[phase]),
    }
