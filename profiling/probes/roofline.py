"""How far each phase is from what its device could do: readings made from other readings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from profiling.engines.trace import COUNTED_PHASES
from profiling.engines.workload import Workload
from profiling.errors import Unsupported
from profiling.machine.peaks import Peaks, Placement, cache_folder, find_peaks
from profiling.records import DERIVED, Reading, unavailable

_NOT_KNOWN = "needs the phase's time, its FLOPs and the size of its weights"


def place_phases(
    workload: Workload, readings: Iterable[Reading], *, target_s: float, copy_bytes: int
) -> Iterator[Reading]:
    """Utilization, intensity and least time of every phase whose time and FLOPs are known."""
    footprint = workload.engine.footprint()
    try:
        costs = workload.engine.costs(
            workload.encode(0), length=workload.max_new_tokens, cross_check=False
        )
    except Unsupported as reason:
        for phase in COUNTED_PHASES:
            yield from _unplaced(phase, str(reason))
        return
    peaks = find_peaks(
        footprint.device,
        footprint.dtype or "float32",
        folder=cache_folder(),
        target_s=target_s,
        copy_bytes=copy_bytes,
    )
    yield from peaks.readings()
    known = {r.metric: r.value for r in readings if r.is_aggregate}
    for phase in COUNTED_PHASES:
        yield from _place(phase, known, costs.moved_bytes[phase], peaks)


def _place(
    phase: str, known: Mapping[str, float | None], moved: int | None, peaks: Peaks
) -> Iterator[Reading]:
    flops, time_s = known.get(f"flops_{phase}"), known.get(f"{phase}_s")
    if flops is None or time_s is None or moved is None:
        yield from _unplaced(phase, _NOT_KNOWN)
        return
    placement = Placement(flops=flops, moved_bytes=float(moved), duration_s=time_s, peaks=peaks)
    yield from _readings(phase, placement)


def _readings(phase: str, placement: Placement) -> Iterator[Reading]:
    roof = (
        f"bound by {placement.bound_by}; peaks measured on this device in {placement.peaks.dtype}"
    )
    peaks = placement.peaks
    share = partial(Reading, phase=phase, unit="1", status=DERIVED, source=roof)
    yield _bounded(
        share(metric=f"mfu_{phase}", value=placement.flops_utilization),
        f"faster than the highest rate that was measured here, {peaks.flops_per_s:.3g} FLOP/s",
    )
    yield _bounded(
        share(metric=f"mbu_{phase}", value=placement.bandwidth_utilization),
        f"faster than memory, {peaks.bytes_per_s:.3g} bytes/s: the weights stay in a cache",
    )
    values = {
        f"intensity_{phase}": (placement.intensity, "FLOP/byte"),
        f"least_{phase}_s": (placement.lower_bound_s, "s"),
        f"moved_{phase}_bytes": (placement.moved_bytes, "bytes"),
    }
    for metric, (value, unit) in values.items():
        yield Reading(
            phase=phase, metric=metric, value=value, unit=unit, status=DERIVED, source=roof
        )


def _bounded(reading: Reading, beyond: str) -> Reading:
    """A share of a peak; more than all of it means that the peak is not the limit."""
    if reading.value is not None and reading.value > 1:
        return unavailable(reading.phase, reading.metric, reading.unit, beyond)
    return reading


def _unplaced(phase: str, reason: str) -> Iterator[Reading]:
    for metric in (f"mfu_{phase}", f"mbu_{phase}"):
        yield unavailable(phase, metric, "1", reason)
