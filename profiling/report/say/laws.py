"""How a cost grows, in words: the power of the law with its interval and goodness."""

from __future__ import annotations

import math

from profiling.statistics.growth import HIGHEST_POWER, LOWEST_POWER, STEP, Growth


def describe_growth(growth: Growth, unit: str) -> str:
    """The power with its interval and goodness, for a sentence.

    Where another form fits better, a power would hide that it changes: its value at both ends.
    """
    if not growth.is_power_law:
        return (
            f"no single power of {unit} fits: the whole grows as {unit}^"
            f"{growth.smallest_exponent:.2f} at the smallest sizes and as {unit}^"
            f"{growth.largest_exponent:.2f} at the largest"
        )
    if not growth.is_determined:
        return f"how it grows with {unit} cannot be told from {growth.points} points"
    low = (
        f"≤{LOWEST_POWER}"
        if math.isclose(growth.power_low, LOWEST_POWER)
        else f"{growth.power_low:.2f}"
    )
    high = (
        f"≥{HIGHEST_POWER}"
        if growth.power_high >= HIGHEST_POWER - STEP / 2
        else f"{growth.power_high:.2f}"
    )
    return f"{unit}^{growth.power:.2f} [{low}, {high}], R² {growth.r_squared:.3f}"
