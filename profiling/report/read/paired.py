"""Paired comparisons, found for two runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiling.metrics import TOTAL
from profiling.records import Compared, Comparison
from profiling.statistics.intervals import CONFIDENCE
from profiling.statistics.ratios import LEAST_LAUNCHES, Ratio

# As many as a comparison begins with.
_USUAL_LAUNCHES = 5


@dataclass(frozen=True, kw_only=True)
class PairedTimes:
    """The time of one side over that of the other, whole (`total`) and by phase."""

    times: Mapping[str, Ratio]
    launches: int
    pairs: int
    noisy: bool

    @property
    def whole(self) -> Ratio:
        return self.times[TOTAL]

    @property
    def why_unbounded(self) -> str:
        """Why there is no interval, where there is none."""
        launches = f"{self.launches} launch{'' if self.launches == 1 else 'es'}"
        if self.launches < LEAST_LAUNCHES:
            return f"{launches}, too few for an interval"
        return f"{launches} that gave no interval, as they do where all have the same ratio"

    @property
    def more_launches(self) -> int:
        """How many to measure for an interval, where there is none."""
        return max(_USUAL_LAUNCHES, self.launches + 1)

    def turned(self) -> PairedTimes:
        """The same with the sides exchanged."""
        return PairedTimes(
            times={phase: _invert(ratio) for phase, ratio in self.times.items()},
            launches=self.launches,
            pairs=self.pairs,
            noisy=self.noisy,
        )


def _invert(ratio: Ratio) -> Ratio:
    return Ratio(
        value=1 / ratio.value,
        low=None if ratio.high is None else 1 / ratio.high,
        high=None if ratio.low is None else 1 / ratio.low,
        confidence=ratio.confidence,
    )


class PairedTable:
    """The comparisons of a results folder, by the fingerprints of both sides.

    `points` tells which fingerprints are the same point in different rounds: what was measured of
    one round holds for the others too.
    """

    def __init__(self, comparisons: Sequence[Comparison], points: Mapping[str, str]) -> None:
        self._points = points
        self._found: dict[tuple[str, str], PairedTimes] = {}
        self._configs: dict[str, Mapping[str, Any]] = {}
        for one in sorted(comparisons, key=_preference):
            self._add(self._name_points(one.a, one.b), _as_times(one))
        for one in sorted(comparisons, key=_preference):
            self._add((one.a, one.b), _as_times(one))
            self._configs |= _read_configs(one)

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

    def has_noise(self, fingerprint: str) -> bool:
        """Whether a comparison of this fingerprint was made on a busy machine."""
        return any(paired.noisy for ends, paired in self._found.items() if fingerprint in ends)

    def list_partners(self, under: str) -> Iterator[tuple[Mapping[str, Any], PairedTimes]]:
        """The configurations that a fingerprint was compared with, and their times over its own."""
        for (over, other), paired in self._found.items():
            if other == under and over in self._configs:
                yield self._configs[over], paired


def _preference(comparison: Comparison) -> tuple[bool, int, int, str]:
    """The last one counts: quiet, with most launches; never the one with the nicer result."""
    whole = comparison.whole
    return (not comparison.noisy, whole.launches or 0, whole.pairs or 0, comparison.address)


def _read_configs(comparison: Comparison) -> dict[str, Mapping[str, Any]]:
    """The configurations of the sides by their fingerprints, where the comparison has them."""
    configs = comparison.content.get("configs")
    if not isinstance(configs, Mapping):
        return {}
    sides = ((comparison.a, configs.get("a")), (comparison.b, configs.get("b")))
    return {fingerprint: config for fingerprint, config in sides if isinstance(config, Mapping)}


def _as_times(comparison: Comparison) -> PairedTimes:
    """The time of A over that of B."""
    whole = comparison.whole
    phases = {phase: _as_ratio(one) for phase, one in comparison.phases.items()}
    return PairedTimes(
        times={**phases, TOTAL: _as_ratio(whole)},
        launches=whole.launches or 0,
        pairs=whole.pairs or 0,
        noisy=comparison.noisy,
    )


def _as_ratio(found: Compared) -> Ratio:
    """Without an interval where an end is missing or out of order, or both are the same."""
    low, high = found.ci_low, found.ci_high
    if low is None or high is None or low == high or not 0 < low <= found.ratio <= high:
        return Ratio(value=found.ratio, low=None, high=None, confidence=None)
    return Ratio(value=found.ratio, low=low, high=high, confidence=CONFIDENCE)


NO_PAIRS = PairedTable((), {})
