"""What a generation costs by phase, as plain numbers that several independent counts agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


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
    # Phases that the plain model has and this one does not, with the reason.
    left_out: Mapping[str, str] = field(default_factory=dict)

    def without(self, left_out: Mapping[str, str]) -> PhaseCosts:
        """The costs of a model that leaves phases out, each for a reason."""
        counts = tuple(
            PhaseCount(phase=count.phase, counted=None, analytic=None, fvcore=None)
            if count.phase in left_out
            else count
            for count in self.counts
        )
        moved = {p: None if p in left_out else moved for p, moved in self.moved_bytes.items()}
        reasons = {**self.left_out, **left_out}
        return replace(self, counts=counts, moved_bytes=moved, left_out=reasons)

    def flops(self, phase: str) -> int | None:
        """The counted FLOPs of a phase; None where they are not known or not whole."""
        if self.uncounted:
            return None
        return next((count.counted for count in self.counts if count.phase == phase), None)
