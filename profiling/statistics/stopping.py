"""When to stop repeating, and when to stop warming up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from profiling.statistics.autocorrelation import count_effective
from profiling.statistics.medians import bound_median

FIRST_LOOK = 10
LEAST_EFFECTIVE = 8
# Repeats to take where each outlasts the whole budget: two show at least how far they differ.
LEAST_SLOW = 2


@dataclass(kw_only=True)
class Repeats:
    """Decides after each repeat whether another is wanted, and keeps what ended it.

    The interval is looked at only when the number of repeats has doubled: a rule that looks
    after every repeat stops at lucky moments and its intervals no longer hold what they claim.
    The minimum is given up where a single pass outlasts the time budget.
    """

    relative_target: float
    time_budget_s: float
    fixed: int | None
    minimum: int
    maximum: int
    stopped_by: str | None = field(default=None, init=False)
    _next_look: int = field(default=FIRST_LOOK, init=False, repr=False)

    def wants_more(self, values: Sequence[float], elapsed_s: float) -> bool:
        self.stopped_by = self._find_end(values, elapsed_s)
        return self.stopped_by is None

    def _find_end(self, values: Sequence[float], elapsed_s: float) -> str | None:
        n = len(values)
        if self.fixed is not None:
            return "fixed" if n >= self.fixed else None
        if n >= LEAST_SLOW and median(values) > self.time_budget_s:
            return "a pass that outlasts the time budget"
        if n < self.minimum:
            return None
        if self._look_is_due(n) and is_narrow(values, self.relative_target):
            return "interval"
        if n >= self.maximum:
            return "maximum"
        return "time_budget" if elapsed_s >= self.time_budget_s else None

    def _look_is_due(self, n: int) -> bool:
        if n < self._next_look:
            return False
        while self._next_look <= n:
            self._next_look *= 2
        return True


def is_narrow(values: Sequence[float], relative_target: float) -> bool:
    """Whether the interval of the median is within the target, relative to the median.

    Few independent repeats look narrow by chance, and do not show their autocorrelation.
    """
    if count_effective(values) < LEAST_EFFECTIVE:
        return False
    interval = bound_median(values)
    return interval is not None and interval.half_width <= relative_target * abs(median(values))


@dataclass(kw_only=True)
class Settling:
    """Decides how long to warm up: until the last `window` running medians agree.

    Each running median is over the last `window` values, so a single stray value neither ends
    nor prolongs the warm-up. A cap and the time budget end it, too: `stopped_by` says what did.
    """

    window: int
    tolerance: float
    cap: int
    time_budget_s: float
    stopped_by: str | None = field(default=None, init=False)

    def wants_more(self, values: Sequence[float]) -> bool:
        self.stopped_by = self._find_end(values)
        return self.stopped_by is None

    def _find_end(self, values: Sequence[float]) -> str | None:
        if self.has_settled(values):
            return "settled"
        if len(values) >= self.cap:
            return "cap"
        return "time_budget" if math.fsum(values) >= self.time_budget_s else None

    def has_settled(self, values: Sequence[float]) -> bool:
        if len(values) < 2 * self.window - 1:
            return False
        ends = range(len(values) - self.window + 1, len(values) + 1)
        medians = [median(values[end - self.window : end]) for end in ends]
        return max(medians) - min(medians) <= self.tolerance * abs(median(medians))
