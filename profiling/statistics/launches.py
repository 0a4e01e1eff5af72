"""How many launches and pairs of a paired comparison are worth their time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from profiling.statistics.intervals import CONFIDENCE
from profiling.statistics.ratios import LEAST_LAUNCHES, Logs, PairedRatio, compare_launches
from profiling.statistics.student import student_quantile

LEAST_PAIRS, MOST_PAIRS = 8, 200
# Of the interval that is wanted, the part that pairs alone may take: launches differ besides.
_PART_OF_PAIRS = 0.8


def choose_pairs(*, launch_s: float, pair_s: float) -> int:
    """Pairs a launch before any spread is known: as much time for pairs as for the start.

    Whatever the spreads turn out to be, the interval then takes at most twice the time that the
    best number of pairs would need.
    """
    return _limit_pairs(launch_s / pair_s)


def count_pairs_needed(*, within_launch_sd: float, launches: int, relative_target: float) -> int:
    """Pairs a launch with which so few launches reach the target if they differ little."""
    quantile = student_quantile((1 + CONFIDENCE) / 2, launches - 1)
    most = _PART_OF_PAIRS * math.log1p(relative_target) * math.sqrt(launches)
    return _limit_pairs((quantile * within_launch_sd / most) ** 2)


def find_best_pairs(
    *, between_launch_sd: float, within_launch_sd: float, launch_s: float, pair_s: float
) -> int:
    """Pairs a launch that give the narrowest interval for the time, once the spreads are known."""
    if between_launch_sd == 0:
        return MOST_PAIRS
    return _limit_pairs(within_launch_sd / between_launch_sd * math.sqrt(launch_s / pair_s))


def _limit_pairs(wanted: float) -> int:
    # An even number: which side comes first alternates from pair to pair.
    even = 2 * round(min(max(wanted, LEAST_PAIRS), MOST_PAIRS) / 2)
    return int(even)


@dataclass(kw_only=True)
class Launches:
    """Decides after each launch whether another is wanted, and keeps what ended it.

    The spread of the first launches decides once how many there have to be for an interval within
    the target (Stein, 1945): a rule that looks at the interval after every launch stops at lucky
    moments. The time budget ends it earlier, but not below three launches.
    """

    relative_target: float
    time_budget_s: float
    first: int
    maximum: int
    stopped_by: str | None = field(default=None, init=False)

    def wants_more(self, launches: Sequence[Logs], elapsed_s: float) -> bool:
        self.stopped_by = self._find_end(launches, elapsed_s)
        return self.stopped_by is None

    def _find_end(self, launches: Sequence[Logs], elapsed_s: float) -> str | None:
        number = len(launches)
        if number >= LEAST_LAUNCHES and elapsed_s * (number + 1) / number > self.time_budget_s:
            return "time_budget"
        if number < self.first:
            return None
        if number >= self.maximum:
            return "maximum"
        return "interval" if number >= self.count_needed(launches) else None

    def count_needed(self, launches: Sequence[Logs]) -> int:
        """How many launches give an interval within the target, by the spread of the first."""
        judged = [fmean(logs) for logs in launches[: self.first]]
        quantile = student_quantile((1 + CONFIDENCE) / 2, len(judged) - 1)
        most = math.log1p(self.relative_target)
        return max(self.first, math.ceil((quantile * stdev(judged) / most) ** 2))

    def compare(self, launches: Sequence[Logs]) -> PairedRatio:
        """The comparison with the interval that belongs to this rule."""
        return compare_launches(launches, first=self.first)
