"""The phases of a generation: moments that an engine marks, and the durations between them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple, Protocol

PHASES = ("preprocess", "transfer", "vision", "projector", "prefill", "decode", "other")
COUNTED_PHASES = ("vision", "projector", "prefill", "decode")
_HOST = "perf_counter_ns around the batch, hooks on the parts"
_SPANS = ("preprocess", "transfer", "vision", "projector", "prefill")


class Clock(Protocol):
    """Marks moments; the time between two is known once everything marked has happened."""

    source: str

    def mark(self) -> Any: ...
    def settle(self) -> None: ...
    def between_s(self, earlier: Any, later: Any) -> float: ...


class HostClock:
    """For work that is done when a call returns."""

    def __init__(self, source: str = _HOST) -> None:
        self.source = source

    # Without a frame of its own, as it is called for each token.
    mark = staticmethod(time.perf_counter_ns)

    def settle(self) -> None:
        pass

    def between_s(self, earlier: int, later: int) -> float:
        return (later - earlier) * 1e-9


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the time of one batch went. The phases that were seen and `other` add up to it."""

    latency_s: float
    phases_s: dict[str, float]
    ttft_s: float | None
    tpot_s: float | None
    num_tokens: float


class PhaseMissing(RuntimeError):
    """A part of the model was never seen at work, so its time would be counted elsewhere."""


class Mark(NamedTuple):
    """A moment at which a row of the batch had so many new tokens."""

    moment: Any
    tokens: int


@dataclass(kw_only=True)
class Trace:
    """The moments marked while one batch runs."""

    clock: Clock
    spans: dict[str, list[tuple[Any, Any]]] = field(default_factory=dict)
    rows: dict[int, list[Mark]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    _open: list[tuple[str, Any]] = field(default_factory=list)
    _nested: list[tuple[str, str, Any, Any]] = field(default_factory=list)

    def enter(self, phase: str) -> None:
        self._open.append((phase, self.clock.mark()))

    def leave(self, phase: str) -> None:
        name, begun = self._open.pop() if self._open else (None, None)
        if name != phase:
            raise PhaseMissing(f"{phase} was left and never entered")
        ended = self.clock.mark()
        self.spans.setdefault(phase, []).append((begun, ended))
        if self._open:
            self._nested.append((self._open[-1][0], phase, begun, ended))

    @contextmanager
    def span(self, phase: str) -> Iterator[None]:
        self.enter(phase)
        yield
        self.leave(phase)

    def tokens(self, count: int, *, row: int = 0, moment: Any = None) -> None:
        """A row has so many new tokens; row 0 stands for all where rows advance together."""
        marked = self.clock.mark() if moment is None else moment
        self.rows.setdefault(row, []).append(Mark(marked, count))

    @property
    def prefilled(self) -> bool:
        return "prefill" in self.spans

    def timing(self, begun: Any, ended: Any, blind: Mapping[str, str]) -> Timing:
        """The durations, once the clock has settled; nothing is said of a blind phase."""
        self._check(blind)
        phases = {phase: self._spent_s(phase) for phase in _SPANS if phase not in blind}
        for outer, inner, first, last in self._nested:
            # What lies in a stated phase and is stated itself is counted there alone.
            if {outer, inner} <= phases.keys():
                phases[outer] -= self.clock.between_s(first, last)
        if "decode" not in blind:
            phases["decode"] = self._decode_s()
        latency_s = self.clock.between_s(begun, ended)
        phases["other"] = latency_s - sum(phases.values())
        return Timing(
            latency_s=latency_s,
            phases_s=phases,
            ttft_s=self._ttft_s(begun),
            tpot_s=self._tpot_s(),
            num_tokens=fmean(marks[-1].tokens for marks in self.rows.values()),
        )

    def _check(self, blind: Mapping[str, str]) -> None:
        missing = [p for p in _SPANS if p not in blind and p not in self.spans]
        if missing or not self.rows:
            raise PhaseMissing(f"never seen at work: {', '.join(missing) or 'any new token'}")
        if self._open:
            raise PhaseMissing(f"{self._open[-1][0]} was entered and never left")

    def _spent_s(self, phase: str) -> float:
        return sum(self.clock.between_s(*span) for span in self.spans.get(phase, ()))

    def _decode_s(self) -> float:
        """From the end of the prefill, or else the first token seen, until the last token."""
        first = [marks[0].moment for marks in self.rows.values()]
        last = [marks[-1].moment for marks in self.rows.values()]
        if self.prefilled:
            first = [self.spans["prefill"][-1][1]]
        return max(self.clock.between_s(a, b) for a in first for b in last)

    def _ttft_s(self, begun: Any) -> float:
        return fmean(self.clock.between_s(begun, marks[0].moment) for marks in self.rows.values())

    def _tpot_s(self) -> float | None:
        """Seconds a token after the first mark, over all rows; several may come in one step."""
        steps = sum(marks[-1].tokens - marks[0].tokens for marks in self.rows.values())
        if not steps:
            return None
        spent = (self.clock.between_s(m[0].moment, m[-1].moment) for m in self.rows.values())
        return sum(spent) / steps
