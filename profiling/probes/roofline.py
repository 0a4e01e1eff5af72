"""How far each phase is from what its device could do: readings made from other readings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import median, mode

from profiling.costs.phase_costs import PhaseCosts
from profiling.engines.engine import Footprint
from profiling.engines.trace import COUNTED_PHASES
from profiling.engines.workload import Workload
from profiling.errors import Unsupported
from profiling.machine.noise import NoiseLimits
from profiling.machine.peaks import NoPeaks, Peaks, Placement, cache_folder, find_peaks
from profiling.records import DERIVED, Reading, reading, unavailable

_UNKNOWN = "needs the phase's time, its FLOPs and the size of its weights"


def place_phases(
    workload: Workload,
    readings: Sequence[Reading],
    *,
    limits: NoiseLimits,
    target_s: float,
    copy_bytes: int,
    most_batches: int,
) -> Iterator[Reading]:
    """Utilization, intensity and least time of every phase whose time and FLOPs are known.

    A repeat's time is compared with the costs of the batch that it timed, of at most so many
    different batches.
    """
    try:
        costs = _count(workload, readings, most_batches)
    except Unsupported as reason:
        for phase in COUNTED_PHASES:
            yield from _unplaced(phase, str(reason))
        return
    timed = {phase: list(_pair(phase, readings, costs)) for phase in COUNTED_PHASES}
    peaks = _find_peaks(
        workload.engine.footprint(),
        limits=limits,
        target_s=target_s,
        copy_bytes=copy_bytes,
        reached=_highest_rate(timed) if costs[0].as_computed else 0.0,
    )
    yield from _without_peaks(peaks) if isinstance(peaks, NoPeaks) else peaks.readings()
    known = {r.metric for r in readings if r.is_aggregate and r.value is not None}
    for phase, pairs in timed.items():
        if not pairs or f"flops_{phase}" not in known:
            yield from _unplaced(phase, _UNKNOWN)
            continue
        yield from _traffic(phase, costs[0])
        yield from _limits(phase, pairs, peaks)


def _count(
    workload: Workload, readings: Sequence[Reading], most_batches: int
) -> Mapping[int, PhaseCosts]:
    """The costs of the first batch and of those that were timed, by the batch's number."""
    timed = dict.fromkeys(r.batch for r in readings if r.metric == "latency_s" and r.batch)
    chosen = [0, *(batch for batch in timed if batch)][:most_batches]
    return {
        batch: workload.engine.costs(
            workload.encode(batch), length=workload.max_new_tokens, cross_check=False
        )
        for batch in chosen
    }


# FLOPs and bytes of a phase in the batch that a repeat timed, and its seconds.
Timed = tuple[float, float, float]


def _pair(
    phase: str, readings: Sequence[Reading], costs: Mapping[int, PhaseCosts]
) -> Iterator[Timed]:
    for row in readings:
        if row.metric != "latency_s" or row.phase != phase or row.batch is None:
            continue
        counted = costs.get(row.batch)
        if counted is None or not row.value:
            continue
        flops, moved = counted.flops(phase), counted.moved_bytes[phase]
        if flops is not None and moved is not None:
            yield float(flops), float(moved), row.value


def _highest_rate(timed: Mapping[str, Sequence[Timed]]) -> float:
    """The highest FLOP/s of a phase in the median of its repeats."""
    rates = [median(flops / s for flops, _, s in pairs) for pairs in timed.values() if pairs]
    return max(rates, default=0.0)


def _find_peaks(
    footprint: Footprint,
    *,
    limits: NoiseLimits,
    target_s: float,
    copy_bytes: int,
    reached: float,
) -> Peaks | NoPeaks:
    if footprint.dtype is None:
        return NoPeaks("the engine does not show the dtype that it computes in")
    try:
        return find_peaks(
            footprint.device,
            footprint.dtype,
            folder=cache_folder(),
            target_s=target_s,
            copy_bytes=copy_bytes,
            limits=limits,
            reached_flops_per_s=reached,
        )
    except NoPeaks as error:
        return error


def _without_peaks(error: NoPeaks) -> Iterator[Reading]:
    yield unavailable("peak_flops_per_s", str(error))
    yield unavailable("peak_bytes_per_s", str(error))


def _traffic(phase: str, costs: PhaseCosts) -> Iterator[Reading]:
    flops, moved = costs.flops(phase), costs.moved_bytes[phase]
    if not flops or not moved:
        return
    source = "counted operations and least traffic of the first full batch"
    row = partial(reading, status=DERIVED, source=source)
    yield row(
        metric=f"intensity_{phase}",
        value=flops / moved,
    )
    yield row(
        metric=f"moved_{phase}_bytes",
        value=float(moved),
    )


def _limits(phase: str, pairs: Sequence[Timed], peaks: Peaks | NoPeaks) -> Iterator[Reading]:
    if isinstance(peaks, NoPeaks):
        yield from _unplaced(phase, str(peaks))
        yield unavailable(f"least_{phase}_s", str(peaks))
        return
    placed = [
        Placement(flops=flops, moved_bytes=moved, duration_s=seconds, peaks=peaks)
        for flops, moved, seconds in pairs
    ]
    roof = (
        f"bound by {mode(one.bound_by for one in placed)}; peaks measured on this device in"
        f" {peaks.dtype}; median of {len(placed)} repeats, each with the costs of its batch"
    )
    share = partial(reading, status=DERIVED, source=roof)
    yield _bounded(
        share(metric=f"mfu_{phase}", value=median(one.flops_utilization for one in placed)),
        f"faster than the highest rate that was measured here, {peaks.flops_per_s:.3g} FLOP/s",
    )
    yield _bounded(
        share(metric=f"mbu_{phase}", value=median(one.bandwidth_utilization for one in placed)),
        f"faster than memory, {peaks.bytes_per_s:.3g} bytes/s: the weights stay in a cache",
    )
    yield reading(
        metric=f"least_{phase}_s",
        value=median(one.lower_bound_s for one in placed),
        status=DERIVED,
        source=roof,
    )


def _bounded(share: Reading, beyond: str) -> Reading:
    """A share of a peak; more than all of it means that the peak is not the limit."""
    if share.value is not None and share.value > 1:
        return unavailable(share.metric, beyond)
    return share


def _unplaced(phase: str, reason: str) -> Iterator[Reading]:
    for metric in (f"mfu_{phase}", f"mbu_{phase}"):
        yield unavailable(metric, reason)
