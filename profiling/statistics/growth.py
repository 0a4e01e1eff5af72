"""How a cost grows: a fixed part and a power of the tokens, with an interval for the power."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from profiling.statistics.student import student_quantile

LEAST_POINTS = 4
LOWEST_POWER = 0.1
HIGHEST_POWER = 4.0
STEP = 0.01
# Of the sum of squares that there is to explain: smaller residuals are rounding.
ROUNDING = 1e-15
BLENDS = 50


@dataclass(frozen=True, kw_only=True)
class Growth:
    """`cost = fixed + slope * tokens ** power`; the interval is of the power.

    The interval covers noise. Where another form fits the costs better than noise explains,
    `is_power_law` is False and no single power describes them. The exponents at both ends are
    those of the whole cost between the two smallest and between the two largest sizes, whatever
    the form.
    """

    fixed: float
    slope: float
    power: float
    power_low: float
    power_high: float
    r_squared: float
    points: int
    is_power_law: bool
    smallest_exponent: float
    largest_exponent: float

    def at(self, tokens: float) -> float:
        return self.fixed + self.slope * tokens**self.power

    @property
    def is_determined(self) -> bool:
        """False where another form fits better, or where nearly every power fits as well."""
        return self.is_power_law and (
            self.power_low > LOWEST_POWER + STEP / 2 or self.power_high < HIGHEST_POWER - STEP / 2
        )


@dataclass(frozen=True, kw_only=True)
class _Line:
    """The best line with neither offset nor slope below zero; squares are relative to the costs."""

    offset: float
    slope: float
    residual: float


def fit_growth(tokens: Sequence[float], costs: Sequence[float]) -> Growth | None:
    """Least squares over the power, the other two not negative; None below four sizes.

    Noise of times is proportional to them, so squares are weighted by 1/cost². The interval holds
    the powers whose residuals are not worse than the best ones by an F test with one degree of
    freedom. It is two steps wide at least, even where costs leave no residual.
    """
    if len(set(tokens)) < LEAST_POINTS or min(tokens) <= 0 or min(costs) <= 0:
        return None
    total = _sum_around_mean(costs)
    if total == 0:
        return None
    largest = max(tokens)
    scaled = [size / largest for size in tokens]
    fits = _fit_powers(scaled, costs)
    power = min(fits, key=lambda power: fits[power].residual)
    best = fits[power]
    freedom = len(costs) - 3
    reach = student_quantile(0.975, freedom) ** 2 / freedom
    # Exact data leave no residual; rounding must not make the interval empty of its own centre.
    limit = best.residual * (1 + reach) + ROUNDING * total
    close = [power for power, fit in fits.items() if fit.residual <= limit]
    smallest, *_, last = _exponents(tokens, costs)
    return Growth(
        fixed=best.offset,
        slope=best.slope / largest**power,
        power=power,
        # The ends lie between the last power that fits and the next one, which does not.
        power_low=max(LOWEST_POWER, min(close) - STEP),
        power_high=min(HIGHEST_POWER, max(close) + STEP),
        r_squared=1 - best.residual / total,
        points=len(costs),
        is_power_law=not _fits_better(_fit_parabola(scaled, costs), best, freedom, total),
        smallest_exponent=smallest,
        largest_exponent=last,
    )


def _fit_powers(scaled: Sequence[float], costs: Sequence[float]) -> Mapping[float, _Line]:
    steps = round((HIGHEST_POWER - LOWEST_POWER) / STEP)
    powers = [LOWEST_POWER + STEP * step for step in range(steps + 1)]
    return {power: _fit_line([size**power for size in scaled], costs) for power in powers}


def _sum_around_mean(costs: Sequence[float]) -> float:
    """The relative squares that a constant leaves."""
    weights = [1 / cost**2 for cost in costs]
    mean = math.fsum(w * cost for w, cost in zip(weights, costs, strict=True)) / math.fsum(weights)
    return math.fsum(w * (cost - mean) ** 2 for w, cost in zip(weights, costs, strict=True))


def _fit_line(x: Sequence[float], y: Sequence[float]) -> _Line:
    weights = [1 / value**2 for value in y]
    mass = math.fsum(weights)
    mean_x, mean_y = _dot(weights, x) / mass, _dot(weights, y) / mass
    spread = math.fsum(w * (a - mean_x) ** 2 for w, a in zip(weights, x, strict=True))
    shared = math.fsum(
        w * (a - mean_x) * (b - mean_y) for w, a, b in zip(weights, x, y, strict=True)
    )
    slope = shared / spread if spread else 0.0
    offset = mean_y - slope * mean_x
    if slope < 0:
        offset, slope = mean_y, 0.0
    elif offset < 0:
        squares = math.fsum(w * a * a for w, a in zip(weights, x, strict=True))
        offset, slope = 0.0, _dot(weights, [a * b for a, b in zip(x, y, strict=True)]) / squares
    residual = math.fsum(
        w * (offset + slope * a - b) ** 2 for w, a, b in zip(weights, x, y, strict=True)
    )
    return _Line(offset=offset, slope=slope, residual=residual)


def _dot(x: Sequence[float], y: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


# The other form


def _fit_parabola(scaled: Sequence[float], costs: Sequence[float]) -> _Line:
    """The best a + b x + c x² with nothing below zero: a line over a blend of x and x²."""

    def fit(share: float) -> _Line:
        return _fit_line([(1 - share) * x + share * x * x for x in scaled], costs)

    return fit(_find_least(lambda share: fit(share).residual))


def _find_least(measure: Callable[[float], float]) -> float:
    """Where a measure is least between 0 and 1, by a grid that is made finer twice."""
    best, width = 0.5, 0.5
    for _ in range(3):
        low, high = max(0.0, best - width), min(1.0, best + width)
        shares = [low + (high - low) * step / BLENDS for step in range(BLENDS + 1)]
        best, width = min(shares, key=measure), (high - low) / BLENDS
    return best


def _fits_better(other: _Line, line: _Line, freedom: int, total: float) -> bool:
    """Whether the residual of another form is smaller by more than noise makes it, at 95%.

    Both forms have as many parameters. The ratio of two such residuals has an F distribution with
    equal degrees of freedom, whose quantiles follow from Student's t.
    """
    u = student_quantile(0.95, freedom) / math.sqrt(freedom)
    most = (u + math.sqrt(1 + u**2)) ** 2
    return line.residual > most * other.residual + 1e3 * ROUNDING * total


def _exponents(tokens: Sequence[float], costs: Sequence[float]) -> Iterator[float]:
    """Of the whole cost, from each size to the next; repeats at a size by their geometric mean."""
    sizes = sorted(set(tokens))
    logs = [
        fmean(math.log(cost) for size, cost in zip(tokens, costs, strict=True) if size == wanted)
        for wanted in sizes
    ]
    for i in range(1, len(sizes)):
        yield (logs[i] - logs[i - 1]) / math.log(sizes[i] / sizes[i - 1])


def find_crossing(sizes: Sequence[float], gaps: Sequence[float]) -> float | None:
    """The size at which a gap first turns from below zero to above it, between two points."""
    for i in range(1, len(sizes)):
        before, after = gaps[i - 1], gaps[i]
        if before < 0 <= after:
            return sizes[i - 1] + (sizes[i] - sizes[i - 1]) * -before / (after - before)
    return None
