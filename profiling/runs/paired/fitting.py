"""Whether both sides of a comparison fit into memory at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from profiling.machine.machine import free_memory_bytes, gpu_uuid
from profiling.machine.nvml import board_of
from profiling.models.weights import locate, read_header
from profiling.points.point import Point
from profiling.records import COMPLETED, BrokenRecord, read_record
from profiling.runs.session import Plan

# What a process needs besides the weights: libraries, the CUDA context, inputs.
_BESIDES_BYTES = 2**30
# Weights with what is computed from them: copies while loading, activations, the cache.
_FACTOR = 1.3
# Below this, nobody has to be asked what loading will take.
_SMALL_BYTES = 2**28
_GIGA = 1e9

# The bytes of weights that a point will load, from somebody who can tell.
Weigh = Callable[[], int | None]
Needs = Mapping[str, int]


def find_needs(plan: Plan, weigh: Weigh) -> Needs | None:
    """Bytes that a point needs on each device: as measured before, or else by its weights."""
    measured = _read_needs(plan)
    if measured is not None:
        return measured
    weight = _stored_bytes(plan.point)
    if weight is None or weight > _SMALL_BYTES:
        told = weigh()
        weight = weight if told is None else told
    if weight is None:
        return None
    needed = round(weight * _FACTOR) + _BESIDES_BYTES
    device = plan.point.device
    return {"cpu": _BESIDES_BYTES, device: needed} if device != "cpu" else {"cpu": needed}


def _read_needs(plan: Plan) -> Needs | None:
    """The peaks in the record of the point, where there is a completed one."""
    try:
        record = read_record(Path(plan.point.results_dir) / plan.fingerprint)
    except BrokenRecord:
        return None
    summary = record.summary
    cpu, gpu = (summary.get(f"{kind}_memory_peak_bytes") for kind in ("cpu", "gpu"))
    device = plan.point.device
    if record.status != COMPLETED or cpu is None:
        return None
    if device == "cpu":
        return {"cpu": int(cpu)}
    return None if gpu is None else {"cpu": int(cpu), device: int(gpu)}


def _stored_bytes(point: Point) -> int | None:
    """The size of the stored weights; None where they are drawn, or not on this machine."""
    source = locate(point)
    folder = Path(source.config)
    if source.values != "stored" or not folder.is_dir():
        return None
    return sum(
        int(item["data_offsets"][1] - item["data_offsets"][0])
        for path in folder.glob("*.safetensors")
        for name, item in read_header(path).items()
        if name != "__metadata__"
    )


def find_shortage(
    a: Needs | None, b: Needs | None, *, share: float, free: Callable[[str], int | None]
) -> str | None:
    """Why both cannot be loaded at the same time, in one line; None where they can.

    Where nobody knows what a side needs, it is tried.
    """
    if a is None or b is None:
        return None
    for device in dict.fromkeys((*a, *b)):
        wanted, there = a.get(device, 0) + b.get(device, 0), free(device)
        if there is not None and wanted > share * there:
            return (
                f"both sides need {wanted / _GIGA:.1f} GB on {device} and"
                f" {there / _GIGA:.1f} GB are free"
            )
    return None


def free_bytes(device: str) -> int | None:
    """Free memory of a device; None where it cannot be read."""
    if device == "cpu":
        return free_memory_bytes()
    with board_of(gpu_uuid(device)) as board:
        return None if board is None else board.free_bytes()
