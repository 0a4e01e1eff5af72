"""How far each phase is from what its device could do: readings made from other readings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from profiling.costs.traffic import moved_bytes, weight_sizes
from profiling.costs.twin import count
from profiling.engines.workload import Workload
from profiling.machine.peaks import Placement, cache_folder, find_peaks
from profiling.probes.flops import geometry_of
from profiling.records import DERIVED, Reading, unavailable

_PLACED = ("vision", "projector", "prefill", "decode")


def place_phases(
    workload: Workload, readings: Iterable[Reading], *, target_s: float, copy_bytes: int
) -> Iterator[Reading]:
    """Utilization, intensity and least time of every phase whose time and FLOPs are known."""
    model = workload.model
    peaks = find_peaks(
        model.device, model.dtype, folder=cache_folder(), target_s=target_s, copy_bytes=copy_bytes
    )
    yield from peaks.readings()
    known = {r.metric: r.value for r in readings if r.is_aggregate}
    moved = moved_bytes(
        count(model.family, geometry_of(workload)),
        weight_sizes(model.network),
        cache_element_bytes=model.dtype.itemsize,
    )
    for phase in _PLACED:
        flops, time_s = known.get(f"flops_{phase}"), known.get(f"{phase}_s")
        if flops is None or time_s is None or moved[phase] is None:
            yield from _unplaced(phase)
            continue
        placement = Placement(
            flops=flops, moved_bytes=float(moved[phase] or 0), duration_s=time_s, peaks=peaks
        )
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


def _unplaced(phase: str) -> Iterator[Reading]:
    reason = "needs the phase's time, its FLOPs and the size of its weights"
    for metric in (f"mfu_{phase}", f"mbu_{phase}"):
        yield unavailable(phase, metric, "1", reason)
