"""What a generation costs by phase, as plain numbers that several independent counts agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PhaseCount:
    """FLOPs of one phase by every method; None where a method has nothing to say."""

    phase: str
    counted: int | None
    analytic: int | None
    fvcore: int | str | None  # or why it could not trace the phase


@dataclass(frozen=True, kw_only=True)
class PhaseCosts:
    """FLOPs and bytes of one batch at a length."""

    counts: tuple[PhaseCount, ...]
    # Steps of decoding that were counted by themselves: the step, and its FLOPs.
    steps: Mapping[int, int]
    # Operators without a formula: with one of them no total is right.
    uncounted: frozenset[str]
    # What each phase cannot do without moving; None where it cannot be told.
    moved_bytes: Mapping[str, int | None]
    # Whether the engine computes what is counted, in its dtype: no part quantized or exported.
    as_computed: bool
    source: str
    cross_sources: Mapping[str, str]

    def flops(self, phase: str) -> int | None:
        """The counted FLOPs of a phase; None where they are not known or not whole."""
        if self.uncounted:
            return None
        return next((count.counted for count in self.counts if count.phase == phase), None)
