"""Paired comparisons: read from a results folder, and found for two runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiling.metrics import TOTAL
from profiling.records import COMPARISONS
from profiling.statistics.intervals import CONFIDENCE
from profiling.statistics.ratios import Ratio

FILE = "comparison.json"
_LARGEST = 1e9


@dataclass(frozen=True, kw_only=True)
class PairedTimes:
    """The time of one side over that of the other, whole (`total`) and by phase."""

    times: Mapping[str, Ratio]
    launches: int
    pairs: int
    noisy: bool
    name: str

    @property
    def whole(self) -> Ratio:
        return self.times[TOTAL]

    def turned(self) -> PairedTimes:
        """The same with the sides exchanged."""
        return PairedTimes(
            times={phase: _invert(ratio) for phase, ratio in self.times.items()},
            launches=self.launches,
            pairs=self.pairs,
            noisy=self.noisy,
            name=self.name,
        )


def _invert(ratio: Ratio) -> Ratio:
    return Ratio(
        value=1 / ratio.value,
        low=None if ratio.high is None else 1 / ratio.high,
        high=None if ratio.low is None else 1 / ratio.low,
        confidence=ratio.confidence,
    )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One record of a comparison: the fingerprints of both sides, and A over B."""

    a: str
    b: str
    a_over_b: PairedTimes


class PairedTable:
    """The comparisons of a results folder, by the fingerprints of both sides.

    `points` tells which fingerprints are the same point in different rounds: what was measured of
    one round holds for the others too.
    """

    def __init__(self, comparisons: Sequence[Comparison], points: Mapping[str, str]) -> None:
        self._points = points
        self._found: dict[tuple[str, str], PairedTimes] = {}
        for one in sorted(comparisons, key=_preference):
            self._add(self._name_points(one.a, one.b), one.a_over_b)
        for one in sorted(comparisons, key=_preference):
            self._add((one.a, one.b), one.a_over_b)

    def _name_points(self, over: str, under: str) -> tuple[str, str]:
        return self._points.get(over, over), self._points.get(under, under)

    def _add(self, ends: tuple[str, str], paired: PairedTimes) -> None:
        if ends[0] != ends[1]:
            self._found[ends] = paired
            self._found[ends[::-1]] = paired.turned()

    def find(self, over: str, under: str) -> PairedTimes | None:
        """The time of one fingerprint over that of another, where they were measured in pairs."""
        exact = self._found.get((over, under))
        return exact or self._found.get(self._name_points(over, under))


def _preference(comparison: Comparison) -> tuple[bool, int, int, str]:
    """The last one counts: quiet, with most launches; never the one with the nicer result."""
    paired = comparison.a_over_b
    return (not paired.noisy, paired.launches, paired.pairs, paired.name)


def read_comparisons(results_dir: Path) -> tuple[list[Comparison], list[str]]:
    """All comparisons of a results folder, and a line for each that cannot be read."""
    found, problems = [], []
    for path in sorted((results_dir / COMPARISONS).glob(f"*/{FILE}")):
        try:
            found.append(_read_comparison(path))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            problems.append(f"{path}: is no paired comparison: {_describe(error)}")
    return found, problems


def _describe(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _read_comparison(path: Path) -> Comparison:
    written = json.loads(path.read_text(encoding="utf-8"))
    phases = {str(phase): _read_ratio(one) for phase, one in (written["phases"] or {}).items()}
    paired = PairedTimes(
        times={**phases, TOTAL: _read_ratio(written)},
        launches=int(written["launches"]),
        pairs=int(written["pairs"]),
        noisy=bool(written["noisy"]),
        name=path.parent.name,
    )
    return Comparison(a=_as_text(written["a"]), b=_as_text(written["b"]), a_over_b=paired)


def _as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no fingerprint")
    return value


def _read_ratio(written: Mapping[str, Any]) -> Ratio:
    value, low, high = (written[name] for name in ("ratio", "ci_low", "ci_high"))
    if low is None or high is None:
        low = high = None
    ends = [end for end in (value, low, high) if end is not None]
    in_order = low is None or low <= value <= high
    if not (in_order and ends and all(1 / _LARGEST < end < _LARGEST for end in ends)):
        raise ValueError(f"{value} [{low}, {high}] is no ratio with its interval")
    return Ratio(value=value, low=low, high=high, confidence=None if low is None else CONFIDENCE)


NO_PAIRS = PairedTable((), {})
