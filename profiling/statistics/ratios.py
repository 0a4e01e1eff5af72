"""Two sets of repeats compared: ratio of medians, ratio of pairs, probability of superiority."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev, variance

from profiling.statistics.autocorrelation import rank_values
from profiling.statistics.intervals import CONFIDENCE, Interval
from profiling.statistics.medians import bound_median
from profiling.statistics.student import student_quantile


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One median over another; no bounds where a side has no interval."""

    value: float
    low: float | None
    high: float | None
    confidence: float | None


def compare_speed(baseline_s: Sequence[float], candidate_s: Sequence[float]) -> Ratio:
    """Speed-up of the candidate: the baseline's median over the candidate's."""
    return divide_medians(
        median(baseline_s), bound_median(baseline_s), median(candidate_s), bound_median(candidate_s)
    )


def divide_medians(
    over: float, above: Interval | None, under: float, below: Interval | None
) -> Ratio:
    """One median over another, with the interval of each.

    Both intervals are joined on the log scale (square-and-add), where exchanging the sides
    only changes the sign: the speed-up of A over B is exactly one over that of B over A.
    """
    value = over / under
    if above is None or below is None:
        return Ratio(value=value, low=None, high=None, confidence=None)
    down_a, up_a = _log_reach(over, above)
    down_b, up_b = _log_reach(under, below)
    return Ratio(
        value=value,
        low=value * math.exp(-math.hypot(down_a, up_b)),
        high=value * math.exp(math.hypot(up_a, down_b)),
        confidence=min(above.confidence, below.confidence),
    )


def _log_reach(centre: float, interval: Interval) -> tuple[float, float]:
    return math.log(centre / interval.low), math.log(interval.high / centre)


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


def find_superiority(baseline_s: Sequence[float], candidate_s: Sequence[float]) -> float:
    """Probability that a random candidate repeat is faster than a random baseline one.

    Ties count half; 0.5 means that neither is faster.
    """
    ranks = rank_values([*baseline_s, *candidate_s])
    size_b, size_c = len(baseline_s), len(candidate_s)
    wins = sum(ranks[:size_b]) - size_b * (size_b + 1) / 2
    return wins / (size_b * size_c)


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
    from these alone, since a spread that stopped the launches is too small (Stein, 1945). None
    where the number was fixed. No interval below three launches.
    """
    means = [fmean(logs) for logs in launches]
    centre = fmean(means)
    reach = _measure_reach(means, first)
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


def compare_rounds(a_s: Sequence[float], b_s: Sequence[float]) -> PairedRatio:
    """Separate runs in rounds: one number a round and side, the rounds as independent launches."""
    return compare_launches([[log] for log in take_logs(a_s, b_s)], first=None)


def _measure_reach(means: Sequence[float], first: int | None) -> float | None:
    """Half of the interval of the mean, in logs."""
    judged = means if first is None else means[:first]
    if len(judged) < LEAST_LAUNCHES:
        return None
    quantile = student_quantile((1 + CONFIDENCE) / 2, len(judged) - 1)
    return quantile * stdev(judged) / math.sqrt(len(means))


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
