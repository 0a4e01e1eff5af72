"""What repeats say and when they have said enough: medians, intervals, stopping rules, ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise
from statistics import NormalDist, fmean, median, stdev

CONFIDENCE = 0.95
FIRST_LOOK = 10
# These two were chosen by simulating the stopping rule on independent and autocorrelated noise;
# the tests repeat that simulation.
CAUTION = 3.0
TRUSTED_WORTH = 8
MOST_ALIKE = 0.99
SHORTEST_SERIES = 5
P95_MINIMUM = 100
P99_MINIMUM = 500


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A range and the share of such ranges that hold the true value."""

    low: float
    high: float
    confidence: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


# Medians


@cache
def choose_ranks(size: int, confidence: float = CONFIDENCE) -> tuple[int, int, float] | None:
    """1-based ranks of the order statistics that enclose the median, and their exact confidence.

    The number of independent values below the median is Binomial(size, 1/2) whatever the
    distribution. None where even the smallest and the largest value are not enough (size < 6
    for 95%).
    """
    outside = 0.0
    chosen = None
    for below in range(size // 2):
        outside += 2 * math.comb(size, below) / 2**size
        if 1 - outside < confidence:
            break
        chosen = (below + 1, size - below, 1 - outside)
    return chosen


def bound_median(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The distribution-free interval of the median, widened where successive values are alike.

    Dependent repeats carry less than their number: the ranks are those of as many independent
    values as they are worth, placed at the same shares of the sorted sample. None where there
    are too few values, however independent.
    """
    if choose_ranks(len(values), confidence) is None:
        return None
    worth = count_effective(values)
    ranks = choose_ranks(worth, confidence)
    if ranks is None:
        return _take_range(values)
    ordered = sorted(values)
    lower, upper, achieved = ranks
    stretch = (len(ordered) + 1) / (worth + 1)
    low, high = _value_at(ordered, lower * stretch), _value_at(ordered, upper * stretch)
    return Interval(low=low, high=high, confidence=achieved)


def _take_range(values: Sequence[float]) -> Interval:
    """The widest interval there is, with the confidence that it reaches, often less than asked.

    Nothing can be widened further, so the likeness is taken as it is seen, without caution.
    """
    alike = max(0.0, correlate_ranks(values))
    confidence = 1 - 2 ** (1 - len(values) * _share_fresh(alike))
    return Interval(low=min(values), high=max(values), confidence=max(0.0, confidence))


def _share_fresh(alike: float) -> float:
    """What share of each value is new, where likeness fades at a constant rate."""
    return (1 - alike) / (1 + alike)


def _value_at(ordered: Sequence[float], rank: float) -> float:
    """The value at a 1-based rank, linear between neighbours."""
    position = min(max(rank - 1, 0.0), len(ordered) - 1.0)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    share = position - below
    return ordered[below] * (1 - share) + ordered[above] * share


def count_effective(values: Sequence[float]) -> int:
    """How many independent values these successive ones are worth, at most their number.

    The likeness is uncertain, more so in short series, and taking it for too small is what
    makes intervals lie: it is raised in proportion to that uncertainty.
    """
    size = len(values)
    alike = max(0.0, estimate_likeness(values))
    cautious = min(MOST_ALIKE, alike * (1 + CAUTION / math.sqrt(max(size, 1))))
    return max(1, math.floor(size * _share_fresh(cautious) + 1e-9))


def estimate_likeness(values: Sequence[float]) -> float:
    """The lag-one correlation freed from its bias towards negative in short series.

    To first order the mean of the raw correlation r is r - (1 + 4 r) / n (Kendall, 1954).
    """
    size = len(values)
    if size < SHORTEST_SERIES:
        return 0.0
    return (correlate_ranks(values) * size + 1) / (size - 4)


def correlate_ranks(values: Sequence[float]) -> float:
    """Lag-one correlation of the ranks: one stray value neither hides nor feigns a likeness."""
    ranks = rank_values(values)
    centre = fmean(ranks)
    spread = sum((rank - centre) ** 2 for rank in ranks)
    shared = sum((a - centre) * (b - centre) for a, b in pairwise(ranks))
    return shared / spread if spread else 0.0


def rank_values(values: Sequence[float]) -> list[float]:
    """1-based ranks in the order of the values; equal values share their mean rank."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and values[order[stop]] == values[order[start]]:
            stop += 1
        for place in order[start:stop]:
            ranks[place] = (start + 1 + stop) / 2
        start = stop
    return ranks


# Summaries


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What one set of repeats amounts to; what cannot be said is None and `missing` says why."""

    n: int
    median: float | None
    mean: float | None
    std: float | None
    minimum: float | None
    maximum: float | None
    p95: float | None
    p99: float | None
    low: float | None
    high: float | None
    confidence: float | None
    effective_n: int
    missing: dict[str, str]


def summarize(values: Sequence[float]) -> Summary:
    n = len(values)
    interval = bound_median(values) if n else None
    return Summary(
        n=n,
        median=median(values) if n else None,
        mean=fmean(values) if n else None,
        std=stdev(values) if n > 1 else None,
        minimum=min(values, default=None),
        maximum=max(values, default=None),
        p95=take_quantile(values, 0.95) if n >= P95_MINIMUM else None,
        p99=take_quantile(values, 0.99) if n >= P99_MINIMUM else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        confidence=interval.confidence if interval else None,
        effective_n=count_effective(values) if n else 0,
        missing=_explain_missing(n, interval),
    )


def _explain_missing(n: int, interval: Interval | None) -> dict[str, str]:
    needs = {"median": 1, "mean": 1, "minimum": 1, "maximum": 1, "std": 2}
    needs |= {"p95": P95_MINIMUM, "p99": P99_MINIMUM}
    missing = {
        name: f"needs at least {least} repeats, there are {n}"
        for name, least in needs.items()
        if n < least
    }
    if interval is None:
        reason = f"a 95% interval of the median needs at least 6 repeats, there are {n}"
        missing |= dict.fromkeys(("low", "high", "confidence"), reason)
    return missing


def describe_interval(summary: Summary) -> str:
    """How the bounds came about, as the source of the readings that carry them."""
    if summary.confidence is None:
        return summary.missing["low"]
    return (
        f"order statistics of {summary.n} repeats worth {summary.effective_n} independent ones, "
        f"confidence {summary.confidence:.1%}"
    )


def take_quantile(values: Sequence[float], share: float) -> float:
    """The quantile by linear interpolation between order statistics (numpy's default)."""
    ordered = sorted(values)
    return _value_at(ordered, share * (len(ordered) - 1) + 1)


# Stopping rules


@dataclass(kw_only=True)
class Repeats:
    """Decides after each repeat whether another is wanted, and keeps what ended it.

    The interval is looked at only when the number of repeats has doubled: a rule that looks
    after every repeat stops at lucky moments and its intervals no longer hold what they claim.
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

    Few independent repeats look narrow by luck, and cannot tell how alike they are.
    """
    if count_effective(values) < TRUSTED_WORTH:
        return False
    interval = bound_median(values)
    return interval is not None and interval.half_width <= relative_target * abs(median(values))


@dataclass(kw_only=True)
class Settling:
    """Decides how long to warm up: until the last `window` running medians agree.

    Each running median is over the last `window` values, so a single stray value neither ends
    nor prolongs the warm-up.
    """

    window: int
    tolerance: float
    cap: int
    hit_cap: bool = field(default=False, init=False)

    def wants_more(self, values: Sequence[float]) -> bool:
        if self.has_settled(values):
            self.hit_cap = False
            return False
        self.hit_cap = len(values) >= self.cap
        return not self.hit_cap

    def has_settled(self, values: Sequence[float]) -> bool:
        if len(values) < 2 * self.window - 1:
            return False
        ends = range(len(values) - self.window + 1, len(values) + 1)
        medians = [median(values[end - self.window : end]) for end in ends]
        return max(medians) - min(medians) <= self.tolerance * abs(median(medians))


# Means with their errors


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its standard error and the degrees of freedom behind that error."""

    value: float
    standard_error: float
    freedom: float

    @cached_property
    def interval(self) -> Interval:
        reach = student_quantile((1 + CONFIDENCE) / 2, self.freedom) * self.standard_error
        return Interval(low=self.value - reach, high=self.value + reach, confidence=CONFIDENCE)

    @property
    def relative_error(self) -> float | None:
        return self.standard_error / abs(self.value) if self.value else None


def estimate_mean(values: Sequence[float]) -> Estimate:
    """The mean of at least two independent values, such as the joules of separate windows."""
    n = len(values)
    return Estimate(value=fmean(values), standard_error=stdev(values) / math.sqrt(n), freedom=n - 1)


def bound_ratio(tops: Sequence[float], bottoms: Sequence[float]) -> Interval | None:
    """The interval of sum(tops) / sum(bottoms) where the pairs, not their parts, were drawn.

    None where fewer than two pairs, or pairs without any spread, leave the error unknown.
    """
    n, total = len(tops), math.fsum(bottoms)
    ratio = math.fsum(tops) / total
    strays = [top - ratio * bottom for top, bottom in zip(tops, bottoms, strict=True)]
    if n < 2 or not any(strays):
        return None
    error = math.sqrt(math.fsum(stray**2 for stray in strays) * n / (n - 1)) / total
    return Estimate(value=ratio, standard_error=error, freedom=n - 1).interval


def bound_share(total: float, n: int) -> Interval:
    """Wilson's interval of the mean of n scores between 0 and 1 that add up to total.

    Exact hits and misses have the largest spread there is, so that graded scores are bounded
    on the safe side; unlike a normal interval it is not empty where every score is the same.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = total / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return Interval(
        low=max(0.0, centre - reach), high=min(1.0, centre + reach), confidence=CONFIDENCE
    )


def subtract(minuend: Estimate, subtrahend: Estimate) -> Estimate:
    """The difference of two independent estimates."""
    return _combine(minuend.value - subtrahend.value, (minuend, 1.0), (subtrahend, -1.0))


def divide(numerator: Estimate, denominator: Estimate) -> Estimate:
    """The ratio of two independent estimates, its error to first order."""
    value = numerator.value / denominator.value
    slope = 1 / denominator.value
    return _combine(value, (numerator, slope), (denominator, -value * slope))


def scale(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(
        value=estimate.value * factor,
        standard_error=estimate.standard_error * abs(factor),
        freedom=estimate.freedom,
    )


def _combine(value: float, *parts: tuple[Estimate, float]) -> Estimate:
    """First-order propagation; freedom after Welch and Satterthwaite."""
    variances = [(slope * part.standard_error) ** 2 for part, slope in parts]
    total = sum(variances)
    shares = sum(v**2 / part.freedom for v, (part, _) in zip(variances, parts, strict=True))
    freedom = total**2 / shares if shares else min(part.freedom for part, _ in parts)
    return Estimate(value=value, standard_error=math.sqrt(total), freedom=freedom)


@cache
def student_quantile(share: float, freedom: float) -> float:
    """Quantile of Student's t, share > 1/2, by bisection of its distribution function."""
    low, high = 0.0, NormalDist().inv_cdf(share) + 1
    while student_cdf(high, freedom) < share:
        high *= 2
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def student_cdf(t: float, freedom: float) -> float:
    """P(T <= t) for t >= 0: with t = sqrt(freedom) * tan(angle) the density is a power of cos."""
    steps = 400
    width = math.atan(t / math.sqrt(freedom)) / steps
    heights = [math.pow(math.cos(width * step), freedom - 1) for step in range(steps + 1)]
    simpson = heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2])
    scale_log = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    return 0.5 + math.exp(scale_log) / math.sqrt(math.pi) * simpson * width / 3


# Two sets of repeats


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times one median holds the other; no bounds where a side has no interval."""

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
    """Speed-up from interleaved repeats: each pair shares the machine's mood, so drift cancels."""
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
