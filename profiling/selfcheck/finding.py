"""The result of a check, as a line of the table: expected, found, verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

OK, OFF, CANNOT = "ok", "off", "cannot be measured here"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the table."""

    check: str
    expected: str
    found: str
    deviation: str
    verdict: str
    why: str


Check = Callable[[], Iterable[Finding]]


def compare(
    check: str,
    *,
    expected: float,
    found: float | None,
    unit: str,
    tolerance: float,
    why: str = "",
) -> Finding:
    """Compare a number with a known one; `tolerance` is relative to the known one.

    A missing number is off.
    """
    deviation = math.inf if found is None else _deviation(expected, found)
    right = deviation <= tolerance
    return Finding(
        check=check,
        expected=show(expected, unit),
        found="nothing" if found is None else show(found, unit),
        deviation="" if found is None else f"{deviation:.2%}",
        verdict=OK if right else OFF,
        why="" if right else why or f"deviates by more than {tolerance:.3g} of the expected value",
    )


def _deviation(expected: float, found: float) -> float:
    if expected == found:
        return 0.0
    return abs(found - expected) / abs(expected) if expected else math.inf


def judge(check: str, *, expected: str, found: str, right: bool, why: str = "") -> Finding:
    """A finding that is not a number, or has a one-sided limit."""
    verdict = OK if right else OFF
    return Finding(
        check=check, expected=expected, found=found, deviation="", verdict=verdict, why=why
    )


def cannot(check: str, *, expected: str, why: str, found: str = "-") -> Finding:
    """A finding for what cannot be measured on this machine, or not now."""
    return Finding(
        check=check, expected=expected, found=found, deviation="", verdict=CANNOT, why=why
    )


def show(value: float, unit: str) -> str:
    text = f"{value:,.0f}" if value == int(value) and abs(value) < 1e12 else f"{value:.5g}"
    return text if unit == "1" else f"{text} {unit}"


def perform(name: str, check: Check) -> Iterator[Finding]:
    """The findings of a check; a check that raises is off."""
    try:
        yield from check()
    except Exception as problem:
        line = " ".join(str(problem).split())
        yield Finding(
            check=name,
            expected="an answer",
            found=type(problem).__name__,
            deviation="",
            verdict=OFF,
            why=line or "no message",
        )
