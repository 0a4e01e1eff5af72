"""How far each phase is from what its device could do: readings made from other readings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from profiling.costs.traffic import moved_bytes, weight_sizes
from profiling.costs.twin import count
from profiling.engines.workload import Workload
from profiling.machine.noise import NoiseLimits
from profiling.machine.peaks import NoPeaks, Peaks, Placement, cache_folder, find_peaks
from profiling.probes.flops import geometry_of
from profiling.records import DERIVED, Reading, unavailable

_PLACED = ("vision", "projector", "prefill", "decode")
_UNKNOWN = "needs the phase's time, its FLOPs and the size of its weights"


def place_phases(
    workload: Workload,
    readings: Iterable[Reading],
    *,
    limits: NoiseLimits,
    target_s: float,
    copy_bytes: int,
) -> Iterator[Reading]:
    """Utilization, intensity and least time of every phase whose time and FLOPs are known."""
    known = {r.metric: r.value for r in readings if r.is_aggregate}
    peaks = _find_peaks(workload, known, limits, target_s, copy_bytes)
    yield from _without_peaks(peaks) if isinstance(peaks, NoPeaks) else peaks.readings()
    moved = _count_traffic(workload)
    for phase in _PLACED:
        flops, time_s = known.get(f"flops_{phase}"), known.get(f"{phase}_s")
        phase_bytes = moved[phase]
        if flops is None or time_s is None or phase_bytes is None:
            yield from _unplaced(phase, _UNKNOWN)
            continue
        yield from _traffic(phase, flops, phase_bytes)
        if isinstance(peaks, NoPeaks):
            yield from _unplaced(phase, str(peaks))
            yield unavailable(phase, f"least_{phase}_s", "s", str(peaks))
            continue
        yield from _limits(
            phase,
            Placement(flops=flops, moved_bytes=phase_bytes, duration_s=time_s, peaks=peaks),
        )


def _find_peaks(
    workload: Workload,
    known: Mapping[str, float | None],
    limits: NoiseLimits,
    target_s: float,
    copy_bytes: int,
) -> Peaks | NoPeaks:
    try:
        return find_peaks(
            workload.model.device,
            workload.model.dtype,
            folder=cache_folder(),
            target_s=target_s,
            copy_bytes=copy_bytes,
            limits=limits,
            reached_flops_per_s=_highest_rate(workload, known),
        )
    except NoPeaks as error:
        return error


def _count_traffic(workload: Workload) -> Mapping[str, float | None]:
    model = workload.model
    counted = moved_bytes(
        count(model.family, geometry_of(workload)),
        weight_sizes(model.network),
        cache_element_bytes=model.dtype.itemsize,
    )
    return {phase: None if total is None else float(total) for phase, total in counted.items()}


def _highest_rate(workload: Workload, known: Mapping[str, float | None]) -> float:
    """The highest FLOP/s of a phase; 0 where phases may do less or other arithmetic than counted.

    That is so in variants that are made from the plain model (quantized, exported) or that keep
    results of earlier passes.
    """
    if workload.model.notes or workload.model.picture_cache:
        return 0.0
    pairs = [(known.get(f"flops_{phase}"), known.get(f"{phase}_s")) for phase in _PLACED]
    return max((flops / time_s for flops, time_s in pairs if flops and time_s), default=0.0)


def _without_peaks(error: NoPeaks) -> Iterator[Reading]:
    yield unavailable("run", "peak_flops_per_s", "FLOP/s", str(error))
    yield unavailable("run", "peak_bytes_per_s", "bytes/s", str(error))


def _traffic(phase: str, flops: float, phase_bytes: float) -> Iterator[Reading]:
    reading = partial(
        Reading, phase=phase, status=DERIVED, source="counted operations and least traffic"
    )
    yield reading(metric=f"intensity_{phase}", value=flops / phase_bytes, unit="FLOP/byte")
    yield reading(metric=f"moved_{phase}_bytes", value=phase_bytes, unit="bytes")


def _limits(phase: str, placement: Placement) -> Iterator[Reading]:
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
    yield Reading(
        phase=phase,
        metric=f"least_{phase}_s",
        value=placement.lower_bound_s,
        unit="s",
        status=DERIVED,
        source=roof,
    )


def _bounded(reading: Reading, beyond: str) -> Reading:
    """A share of a peak; more than all of it means that the peak is not the limit."""
    if reading.value is not None and reading.value > 1:
        return unavailable(reading.phase, reading.metric, reading.unit, beyond)
    return reading


def _unplaced(phase: str, reason: str) -> Iterator[Reading]:
    for metric in (f"mfu_{phase}", f"mbu_{phase}"):
        yield unavailable(phase, metric, "1", reason)
