"""Write numbers for people: three digits, a scaled unit, an interval in the same unit."""

from __future__ import annotations

import math

from profiling.metrics import COUNT
from profiling.report.read.readings import is_number
from profiling.statistics.intervals import CONFIDENCE, Interval
from profiling.statistics.ratios import Ratio

_DECIMAL = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SMALL = ((1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_BINARY = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))

# Smaller differences are rounding of the arithmetic.
_MOST_PLACES = 9

NOTHING = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"


def digits(value: float) -> str:
    """Three significant digits, with an exponent only for very small and very large numbers."""
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude < 7:
        return f"{value:.2e}"
    return f"{value:.{max(0, 2 - magnitude)}f}"


def scale_of(value: float, unit: str) -> tuple[float, str]:
    """The divisor and the unit to print that suit the size of a value."""
    if unit == "bytes":
        return next(((f, name) for f, name in _BINARY if abs(value) >= f), (1.0, "B"))
    if unit == "FLOP":
        return next(((f, f"{p}FLOP") for f, p in _DECIMAL if abs(value) >= f), (1.0, unit))
    if unit in ("s", "J", "W"):
        return _scale_si(value, unit)
    return 1.0, "" if unit == COUNT else unit.replace("1/", "/")


def _scale_si(value: float, unit: str) -> tuple[float, str]:
    steps = ((1.0, ""), *_SMALL) if unit == "s" else (*_DECIMAL, *_SMALL)
    if value == 0:
        return 1.0, unit
    return next(((f, f"{p}{unit}") for f, p in steps if abs(value) >= f), (1e-9, f"n{unit}"))


def quantity(value: object, unit: str) -> str:
    """`0.0123, "s"` becomes `12.3 ms`; a dash where there is no finite number."""
    if not is_number(value):
        return NOTHING
    number = float(value)  # type: ignore[arg-type]
    factor, name = scale_of(number, unit)
    return f"{digits(number / factor)} {name}".rstrip()


def interval(value: object, bounds: Interval | None, unit: str) -> str:
    """A value with its interval, both in the unit that suits the value."""
    if bounds is None or not is_number(value):
        return quantity(value, unit)
    number = float(value)  # type: ignore[arg-type]
    factor, name = scale_of(number, unit)
    ends = f"[{digits(bounds.low / factor)}, {digits(bounds.high / factor)}]"
    return f"{digits(number / factor)} {ends} {name}".rstrip() + say_reached(bounds)


def say_reached(bounds: Interval) -> str:
    """The confidence of an interval that does not reach the usual one; else nothing."""
    if bounds.confidence >= CONFIDENCE:
        return ""
    # Not rounded up to the confidence that it lacks.
    return f" ({math.floor(100 * bounds.confidence)}% interval)"


def count(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def percent(share: object) -> str:
    """`0.314` becomes `31%`; what is nearly nothing or nearly all is not rounded to it."""
    if not is_number(share):
        return NOTHING
    value = round(100 * float(share), _MOST_PLACES)  # type: ignore[arg-type]
    places = 0
    while round(value, places) in (0, 100) and value not in (0, 100):
        places += 1
    return f"{value + 0.0:.{places}f}%"


def signed(change: float) -> str:
    """A relative change in percent, with a digit that shows its sign."""
    return f"{_with_sign(100 * change, 1)}%"


def difference(value: float) -> str:
    """The difference of two scores, with a digit that shows its sign."""
    return _with_sign(value, 3)


def _with_sign(value: float, places: int) -> str:
    """So that an interval which excludes zero is not shown with an end that is zero."""
    value = round(value, _MOST_PLACES) + 0.0
    while value and not round(value, places):
        places += 1
    return f"{value:+.{places}f}"


def times(ratio: object) -> str:
    """A ratio with a multiplication sign."""
    return f"{digits(float(ratio))}{TIMES}" if is_number(ratio) else NOTHING  # type: ignore[arg-type]


def say_ratio(ratio: Ratio) -> str:
    """A ratio with its interval, where it has one."""
    if ratio.low is None or ratio.high is None:
        return times(ratio.value)
    return show_ratio(ratio.value, ratio.low, ratio.high)


def show_ratio(value: float, low: float, high: float) -> str:
    """A ratio with its interval, whose ends stay on their side of 1 when they are rounded."""
    shown, places = [digits(one) for one in (value, low, high)], 3
    while not low <= 1 <= high and 1.0 in map(float, shown[1:]) and places < _MOST_PLACES:
        places += 1
        shown = [f"{one:.{places}f}" for one in (value, low, high)]
    return f"{shown[0]}{TIMES} [{shown[1]}, {shown[2]}]"
