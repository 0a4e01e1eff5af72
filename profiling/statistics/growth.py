"""How a cost grows: a fixed part and a power of the tokens, with an interval for the power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from profiling.statistics.student import student_quantile

LEAST_POINTS = 4
LOWEST_POWER = 0.1
HIGHEST_POWER = 4.0
STEP = 0.01


@dataclass(frozen=True, kw_only=True)
class Growth:
    """`cost = fixed + slope * tokens ** power`; the interval is of the power."""

    fixed: float
    slope: float
    power: float
    power_low: float
    power_high: float
    r_squared: float
    points: int

    def at(self, tokens: float) -> float:
        return self.fixed + self.slope * tokens**self.power

    @property
    def is_determined(self) -> bool:
        """False where powers from one end of the search to the other fit as well."""
        return (
            self.power_low > LOWEST_POWER + STEP / 2 or self.power_high < HIGHEST_POWER - STEP / 2
        )


def fit_growth(tokens: Sequence[float], costs: Sequence[float]) -> Growth | None:
    """Least squares over the power, the other two not negative; None below four sizes.

    The interval holds the powers whose residuals are not worse than the best ones by an F test
    with one degree of freedom, so it covers misfit of the form as well as noise.
    """
    sizes = len(set(tokens))
    centre = sum(costs) / len(costs) if costs else 0.0
    total = sum((cost - centre) ** 2 for cost in costs)
    if sizes < LEAST_POINTS or min(tokens) <= 0 or total == 0:
        return None
    largest = max(tokens)
    scaled = [size / largest for size in tokens]
    steps = round((HIGHEST_POWER - LOWEST_POWER) / STEP)
    powers = [LOWEST_POWER + STEP * step for step in range(steps + 1)]
    fits = [_fit_line([size**power for size in scaled], costs) for power in powers]
    best = min(range(len(powers)), key=lambda i: fits[i][2])
    fixed, slope, residual = fits[best]
    freedom = len(costs) - 3
    reach = student_quantile(0.975, freedom) ** 2 / freedom
    # Exact data leave no residual; rounding must not make the interval empty of its own centre.
    limit = residual * (1 + reach) + 1e-15 * total
    close = [power for power, fit in zip(powers, fits, strict=True) if fit[2] <= limit]
    return Growth(
        fixed=fixed,
        slope=slope / largest ** powers[best],
        power=powers[best],
        power_low=min(close),
        power_high=max(close),
        r_squared=1 - residual / total,
        points=len(costs),
    )


def _fit_line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Offset, slope and squared residual of the best line with neither below zero."""
    n = len(x)
    mean_x, mean_y = sum(x) / n, sum(y) / n
    spread = sum((value - mean_x) ** 2 for value in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    offset = mean_y - slope * mean_x
    if slope < 0:
        offset, slope = mean_y, 0.0
    elif offset < 0:
        offset, slope = 0.0, sum(a * b for a, b in zip(x, y, strict=True)) / sum(a * a for a in x)
    residual = sum((offset + slope * a - b) ** 2 for a, b in zip(x, y, strict=True))
    return offset, slope, residual


def find_crossing(sizes: Sequence[float], gaps: Sequence[float]) -> float | None:
    """The size at which a gap first turns from below zero to above it, between two points."""
    for i in range(1, len(sizes)):
        before, after = gaps[i - 1], gaps[i]
        if before < 0 <= after:
            return sizes[i - 1] + (sizes[i] - sizes[i - 1]) * -before / (after - before)
    return None
