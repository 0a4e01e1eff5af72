"""Differences of scores between two runs that were judged on the same samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean

from profiling.statistics.intervals import CONFIDENCE, Interval
from profiling.statistics.skewed_means import LEAST_SAMPLES, bound_change

SIGNIFICANCE = 1 - CONFIDENCE


@dataclass(frozen=True, kw_only=True)
class ScoreDifference:
    """The change of a mean over the same samples, in the unit of the score.

    The interval alone decides whether there is a difference; `better` and `worse` count samples
    whose error fell or rose.
    """

    changes: tuple[float, ...]
    bounds: Interval | None

    @property
    def samples(self) -> int:
        return len(self.changes)

    @property
    def change(self) -> float:
        return fmean(self.changes)

    @property
    def better(self) -> int:
        return sum(change < 0 for change in self.changes)

    @property
    def worse(self) -> int:
        return sum(change > 0 for change in self.changes)

    @property
    def is_unchanged(self) -> bool:
        """Whether every sample has the score that it had."""
        return not any(self.changes)

    @property
    def is_different(self) -> bool:
        return self.bounds is not None and not self.bounds.holds(0.0)

    def bounds_around(self, change: float) -> Interval | None:
        """The interval moved to the change of a column that may weight samples.

        A corpus' error rate weights them by their length, so that its change is not the plain mean.
        """
        if self.bounds is None:
            return None
        shift = change - self.change
        return replace(self.bounds, low=self.bounds.low + shift, high=self.bounds.high + shift)

    @property
    def reason(self) -> str:
        """Why there is no interval; nothing where there is one."""
        if self.bounds is not None:
            return ""
        if self.samples < LEAST_SAMPLES:
            return (
                f"{self.samples} samples are too few for an interval, which needs {LEAST_SAMPLES}"
            )
        return "all samples change alike, so that their spread is unknown"


def compare_errors(
    before: Mapping[str, float], after: Mapping[str, float]
) -> ScoreDifference | None:
    """The errors of the samples that both runs have; None where there are fewer than two."""
    shared = sorted(before.keys() & after.keys())
    changes = tuple(after[sample] - before[sample] for sample in shared)
    if len(changes) < 2:
        return None
    return ScoreDifference(changes=changes, bounds=bound_change(changes))


def count_tail(worse: int, better: int) -> float:
    """How likely so many or more of all moved samples are worse if either were as likely."""
    moved = worse + better
    return sum(math.comb(moved, k) for k in range(worse, moved + 1)) / 2**moved
