"""Where each phase stands under the machine's roofline, and what keeps it from running faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from profiling.report.draw.figures import Mark, draw_roofline
from profiling.report.draw.palette import COUNTED_PHASES
from profiling.report.read.runs import Run
from profiling.report.say.marks import mark_run, mark_weights
from profiling.report.say.units import percent, quantity
from profiling.report.write.markdown import Column, table
from profiling.report.write.sections import Paper, section


@dataclass(frozen=True, kw_only=True)
class Place:
    """One phase: its time, its work, and what the machine could do at best."""

    phase: str
    seconds: float
    flops: float
    moved_bytes: float
    peak_flops_per_s: float
    peak_bytes_per_s: float

    @property
    def intensity(self) -> float:
        return self.flops / self.moved_bytes

    @property
    def is_bound_by_memory(self) -> bool:
        return self.intensity < self.peak_flops_per_s / self.peak_bytes_per_s

    @property
    def least_s(self) -> float:
        """The time that the slower of computing and moving takes at its peak."""
        return max(self.flops / self.peak_flops_per_s, self.moved_bytes / self.peak_bytes_per_s)


def find_places(run: Run) -> list[Place]:
    """The phases of which the run knows time, work and traffic, where the peaks are known."""
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
                )
            )
    return places


def show_roofline(paper: Paper, run: Run) -> list[str]:
    """The figure and the table of one run; nothing where its peaks are not known."""
    places = find_places(run)
    if not places:
        return []
    top = places[0]
    draw_roofline(
        paper.figure("roofline"),
        [
            Mark(phase=place.phase, x=place.intensity, y=place.flops / place.seconds)
            for place in places
        ],
        title=f"{run['model']}{mark_weights(run)}: achieved against attainable",
        peak_flops_per_s=top.peak_flops_per_s,
        peak_bytes_per_s=top.peak_bytes_per_s,
    )
    peaks = quantity(top.peak_flops_per_s, "FLOP"), quantity(top.peak_bytes_per_s, "bytes")
    lead = f"Run `{run.short}`{mark_run(run)}. The peaks are {peaks[0]}/s and {peaks[1]}/s."
    figure = paper.show("roofline", "Achieved FLOP/s against arithmetic intensity, by phase")
    return section("Achieved against attainable", [lead, "", *figure, *table(_columns(places))])


def _columns(places: Sequence[Place]) -> list[Column]:
    cells = {
        "phase": [place.phase for place in places],
        "bound by": ["memory" if place.is_bound_by_memory else "compute" for place in places],
        "time": [quantity(place.seconds, "s") for place in places],
        "least possible": [quantity(place.least_s, "s") for place in places],
        "of what is possible": [percent(place.least_s / place.seconds) for place in places],
        "work": [quantity(place.flops, "FLOP") for place in places],
        "moved": [quantity(place.moved_bytes, "bytes") for place in places],
        "FLOP per byte": [f"{place.intensity:.3g}" for place in places],
    }
    texts = ("phase", "bound by")
    return [Column(head=head, cells=own, is_text=head in texts) for head, own in cells.items()]
