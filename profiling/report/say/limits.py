"""Where each phase stands under the machine's roofline, and which peak limits it."""

from __future__ import annotations

from dataclasses import dataclass

from profiling.metrics import COUNTED_PHASES
from profiling.report.read.runs import Run


@dataclass(frozen=True, kw_only=True)
class Place:
    """One phase: its time, operations and traffic, and the peaks of the machine.

    Operations and traffic are those of the first full batch, while the time is the median of all
    that were timed. `timed_least_s` is the median over these, each with the costs of its own batch;
    without it, all batches count as the first.
    """

    phase: str
    seconds: float
    flops: float
    moved_bytes: float
    peak_flops_per_s: float
    peak_bytes_per_s: float
    timed_least_s: float | None = None

    @property
    def intensity(self) -> float:
        return self.flops / self.moved_bytes

    @property
    def is_bound_by_memory(self) -> bool:
        return self.intensity < self.peak_flops_per_s / self.peak_bytes_per_s

    @property
    def bound_by(self) -> str:
        return "memory" if self.is_bound_by_memory else "compute"

    @property
    def least_s(self) -> float:
        """The longer of computing and moving data, each at its peak."""
        return self.timed_least_s or self._first_least_s

    @property
    def _first_least_s(self) -> float:
        return max(self.flops / self.peak_flops_per_s, self.moved_bytes / self.peak_bytes_per_s)

    @property
    def reached_flops_per_s(self) -> float:
        """The rate of the batches that were timed: their work grows with their least time."""
        return self.flops / self.seconds * self.least_s / self._first_least_s


def find_places(run: Run) -> list[Place]:
    """The phases whose time, operations and traffic are known, where the peaks are known."""
    places = []
    for phase in COUNTED_PHASES:
        columns = (f"{phase}_s", f"flops_{phase}", f"moved_{phase}_bytes")
        values = [run.number(c) for c in (*columns, "peak_flops_per_s", "peak_bytes_per_s")]
        known = [value for value in values if value]
        if len(known) == len(values):
            places.append(
                Place(
                    phase=phase,
                    seconds=known[0],
                    flops=known[1],
                    moved_bytes=known[2],
                    peak_flops_per_s=known[3],
                    peak_bytes_per_s=known[4],
                    timed_least_s=run.number(f"least_{phase}_s"),
                )
            )
    return places
