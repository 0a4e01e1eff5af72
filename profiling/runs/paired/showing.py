"""A comparison as a table and one plain sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator

from profiling.records import Compared, Comparison
from profiling.statistics.ratios import LEAST_LAUNCHES

_CLOSE = 0.005
_TURNS = {"passes": "passes alternated", "launches": "launches alternated"}
_ENDS = {
    "interval": "the interval is as narrow as wanted",
    "maximum": "no more launches were allowed",
    "time_budget": "the time budget was spent",
    "fixed": "so many launches were asked for",
}


def show(comparison: Comparison) -> Iterator[str]:
    """Lines of text."""
    content = comparison.content
    for name in "ab":
        yield f"{name.upper()}: {content['labels'][name]}"
    yield ""
    yield f"{'':<12}{'A / B':>8}   {'95% interval':<18}{'A':>12}{'B':>12}"
    yield _row("whole", comparison.whole)
    for phase, compared in comparison.phases.items():
        yield _row(phase, compared)
    yield ""
    yield describe_effort(comparison)
    yield from _notes(comparison)
    yield describe(comparison)


def _row(name: str, compared: Compared) -> str:
    sides = (_show_seconds(compared.a_median_s), _show_seconds(compared.b_median_s))
    columns = "".join(f"{side:>12}" for side in sides)
    return f"{name:<12}{compared.ratio:>8.3f}   {_show_interval(compared, 3):<18}{columns}"


def _show_interval(compared: Compared, digits: int) -> str:
    if compared.ci_low is None or compared.ci_high is None:
        return "-"
    return f"[{compared.ci_low:.{digits}f}, {compared.ci_high:.{digits}f}]"


def _show_seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.4g} {unit}"
    return f"{seconds * 1e6:.4g} µs"


def describe_effort(comparison: Comparison) -> str:
    """How much was measured, and what ended it."""
    whole, content = comparison.whole, comparison.content
    return (
        f"{_count(whole.launches, 'launch', 'launches')} of fresh processes,"
        f" {_count(whole.pairs, 'pair', 'pairs')} of passes;"
        f" {_TURNS[content['interleaved']]}; {_ENDS[content['stopped_by']]}"
    )


def _count(number: int | None, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def _notes(comparison: Comparison) -> Iterator[str]:
    content = comparison.content
    if content["interleaved_reason"]:
        yield f"launches alternated because {content['interleaved_reason']}"
    if not content["same_batches"]:
        yield "the two passes of a pair did not have the same samples"
    if comparison.noisy:
        yield f"the machine was busy: {comparison.noise_reason}"


def describe(comparison: Comparison) -> str:
    """What the comparison shows, in one sentence that claims no more than that."""
    whole = comparison.whole
    if whole.ci_low is None or whole.ci_high is None:
        return f"A took {whole.ratio:.3g} times as long as B {_say_no_interval(whole)}"
    if whole.ci_low <= 1 <= whole.ci_high:
        largest = max(whole.ci_high, 1 / whole.ci_low) - 1
        return (
            f"no difference shown larger than {_round_up(largest)}: A takes"
            f" {whole.ratio:.3f} times as long as B {_show_interval(whole, 3)}"
        )
    digits = 2 if min(abs(end - 1) for end in (whole.ci_low, whole.ci_high)) > _CLOSE else 4
    return f"A takes {whole.ratio:.{digits}f} times as long as B {_show_interval(whole, digits)}"


def _say_no_interval(whole: Compared) -> str:
    launches = _count(whole.launches, "launch", "launches")
    if (whole.launches or 0) < LEAST_LAUNCHES:
        return f"in {launches}; three are needed for an interval"
    return f"in each of {launches}, so that how much they vary is unknown"


def _round_up(share: float) -> str:
    """A share in percent that is not below it."""
    return f"{math.ceil(share * 1000) / 10:.1f}%"
