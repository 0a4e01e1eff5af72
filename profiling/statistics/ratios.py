"""Two sets of times compared: ratio of pairs, and ratio over several launches of both sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev, variance

from profiling.statistics.intervals import CONFIDENCE
from profiling.statistics.medians import bound_median
from profiling.statistics.rounds import drop_rounding
from profiling.statistics.student import student_quantile


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One time over another; no bounds where the data give no interval."""

    value: float
    low: float | None
    high: float | None
    confidence: float | None


def compare_pairs(baseline_s: Sequence[float], candidate_s: Sequence[float]) -> Ratio:
    """Speed-up from interleaved repeats: drift of the machine changes both sides of a pair."""
    logs = [math.log(b / c) for b, c in zip(baseline_s, candidate_s, strict=True)]
    interval = bound_median(logs)
    return Ratio(
        value=math.exp(median(logs)),
        low=math.exp(interval.low) if interval else None,
        high=math.exp(interval.high) if interval else None,
        confidence=interval.confidence if interval else None,
    )


# Several launches of both sides
#
# Two runs at two times differ by the state of the machine, and two processes by how they were
# started. Passes of both sides therefore alternate, and both are started anew several times. A
# launch gives one independent number, the mean log ratio of its pairs; the interval comes from the
# spread of these numbers, so that it covers what changes from launch to launch (Kalibera and Jones,
# "Rigorous benchmarking in reasonable time", 2013).

# With fewer, the spread between launches is hardly known.
LEAST_LAUNCHES = 3

Logs = Sequence[float]  # of the ratios of the pairs of one launch


@dataclass(frozen=True, kw_only=True)
class PairedRatio:
    """Time of one side over that of the other; what cannot be told is None."""

    value: float
    low: float | None
    high: float | None
    confidence: float | None
    launches: int
    pairs: int
    between_launch_sd: float | None
    within_launch_sd: float | None

    @property
    def is_different(self) -> bool:
        """Whether the interval excludes equal times."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


def take_logs(a_s: Sequence[float], b_s: Sequence[float]) -> list[float]:
    """The log ratios of pairs of times, each measured one right after the other."""
    return [math.log(a / b) for a, b in zip(a_s, b_s, strict=True)]


def compare_launches(launches: Sequence[Logs], *, first: int | None) -> PairedRatio:
    """The mean over launches of the mean log ratio, with the interval of Student's t.

    `first` is the number of launches that decided how many more to run: then the spread is taken
    from these alone, since a spread that stopped the launches is too small (Stein, 1945). Longer
    launches that follow spread less, unless passes drift: the interval is that of all launches
    where it is wider. None where the number was fixed. No interval below three launches, nor where
    they do not vary: equal means do not show how much others would differ.
    """
    means = [fmean(logs) for logs in launches]
    centre = fmean(means)
    reach = _measure_reach(means, first)
    if reach is not None and any(len(logs) > len(launches[0]) for logs in launches):
        reach = max(reach, _measure_reach(means, None) or 0.0)
    return PairedRatio(
        value=math.exp(centre),
        low=None if reach is None else math.exp(centre - reach),
        high=None if reach is None else math.exp(centre + reach),
        confidence=None if reach is None else CONFIDENCE,
        launches=len(launches),
        pairs=sum(len(logs) for logs in launches),
        between_launch_sd=measure_between(launches),
        within_launch_sd=measure_within(launches),
    )


def _measure_reach(means: Sequence[float], first: int | None) -> float | None:
    """Half of the interval of the mean, in logs."""
    judged = means if first is None else means[:first]
    if len(judged) < LEAST_LAUNCHES:
        return None
    spread = drop_rounding(stdev(judged))
    if spread == 0:
        return None
    quantile = student_quantile((1 + CONFIDENCE) / 2, len(judged) - 1)
    return quantile * spread / math.sqrt(len(means))


def measure_within(launches: Sequence[Logs]) -> float | None:
    """The spread of the log ratios of pairs around the mean of their launch."""
    spreads = [(variance(logs), len(logs) - 1) for logs in launches if len(logs) > 1]
    if not spreads:
        return None
    freedom = sum(weight for _, weight in spreads)
    return math.sqrt(math.fsum(spread * weight for spread, weight in spreads) / freedom)


def measure_between(launches: Sequence[Logs]) -> float | None:
    """The spread of launches beyond what their pairs explain; 0 where these explain all of it."""
    within = measure_within(launches)
    if len(launches) < 2 or within is None:
        return None
    explained = fmean(within**2 / len(logs) for logs in launches)
    return math.sqrt(max(0.0, variance(fmean(logs) for logs in launches) - explained))
