"""The GPUs that CUDA shows to this process: boards, and instances of boards (MIG)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
INSTANCE = "MIG-"
# What CUDA_VISIBLE_DEVICES is set to in order to hide every GPU.
HIDING = ("", "-1", "nodevfiles", "none", "void")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU in the order of CUDA for this process: `index` is the N of `cuda:N`."""

    index: int
    name: str
    uuid: str
    memory_bytes: int

    @property
    def is_instance(self) -> bool:
        """Whether it is one instance of a board that is partitioned (MIG)."""
        return self.uuid.startswith(INSTANCE)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A device of NVML: a board, or an instance with the name that older drivers give it."""

    handle: Any
    uuid: str
    older_name: str | None = None


def visible_gpus(nvml: Any, cuda_visible_devices: str | None) -> tuple[Gpu, ...]:
    """The GPUs visible to CUDA in this process, in PCI order (`ORDER` makes CUDA count so)."""
    found = _choose(nvml, cuda_visible_devices)
    return tuple(_gpu(nvml, device.handle, index) for index, device in enumerate(found))


def list_uuids(nvml: Any) -> list[str]:
    """Everything that CUDA_VISIBLE_DEVICES could name."""
    boards = _list_boards(nvml)
    return [d.uuid for board in boards for d in (board, *list_instances(nvml, board.handle))]


def hides_all(cuda_visible_devices: str | None) -> bool:
    """Whether the setting is one that hides every GPU on purpose."""
    return cuda_visible_devices is not None and cuda_visible_devices.strip().lower() in HIDING


def _gpu(nvml: Any, handle: Any, index: int) -> Gpu:
    return Gpu(
        index=index,
        name=as_text(nvml.nvmlDeviceGetName(handle)),
        uuid=as_text(nvml.nvmlDeviceGetUUID(handle)),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
    )


def _choose(nvml: Any, cuda_visible_devices: str | None) -> list[Found]:
    boards = _list_boards(nvml)
    if cuda_visible_devices is None:
        return _as_cuda_shows(nvml, boards)
    chosen: list[Found] = []
    for entry in cuda_visible_devices.split(","):
        device = _find(nvml, entry.strip(), boards)
        # CUDA uses the entries before the first wrong one, and none if one is repeated.
        if device is None:
            break
        if device.uuid in {other.uuid for other in chosen}:
            return []
        chosen.append(device)
    return _as_cuda_shows(nvml, chosen)


def _as_cuda_shows(nvml: Any, devices: Sequence[Found]) -> list[Found]:
    """One instance alone where there is any: CUDA shows neither a second nor a board beside it.

    A board that is partitioned stands for its first instance, and for nothing without one.
    """
    shown: list[Found] = []
    for device in devices:
        if is_partitioned(nvml, device.handle):
            shown.extend(list_instances(nvml, device.handle)[:1])
        else:
            shown.append(device)
    return next(([one] for one in shown if one.uuid.startswith(INSTANCE)), shown)


def _list_boards(nvml: Any) -> list[Found]:
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    return [
        Found(handle=handle, uuid=as_text(nvml.nvmlDeviceGetUUID(handle))) for handle in handles
    ]


def _find(nvml: Any, entry: str, boards: Sequence[Found]) -> Found | None:
    if re.fullmatch(r"\d+", entry):
        return boards[int(entry)] if int(entry) < len(boards) else None
    if not entry:
        return None
    if not entry.startswith(INSTANCE):
        return _only(boards, lambda board: board.uuid.startswith(entry))
    instances = [one for board in boards for one in list_instances(nvml, board.handle)]
    if "/" in entry:
        return _only(instances, lambda one: one.older_name == entry)
    return _only(instances, lambda one: one.uuid.startswith(entry))


def _only(devices: Sequence[Found], matches: Callable[[Found], bool]) -> Found | None:
    """A UUID may be abbreviated to a unique prefix."""
    found = [device for device in devices if matches(device)]
    return found[0] if len(found) == 1 else None


# Instances of boards


def is_partitioned(nvml: Any, handle: Any) -> bool:
    """Whether a board is partitioned into instances (MIG) that other programs may use."""
    ask = getattr(nvml, "nvmlDeviceGetMigMode", None)
    if ask is None:
        return False
    try:
        current, _ = ask(handle)
    except nvml.NVMLError:
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def list_instances(nvml: Any, board: Any) -> list[Found]:
    """The instances of a board in NVML's order; none where it is not partitioned."""
    return list(_walk_instances(nvml, board)) if is_partitioned(nvml, board) else []


def _walk_instances(nvml: Any, board: Any) -> Iterator[Found]:
    try:
        most = nvml.nvmlDeviceGetMaxMigDeviceCount(board)
    except nvml.NVMLError:
        return
    for index in range(most):
        try:
            handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(board, index)
        except nvml.NVMLError:
            # A place without an instance.
            continue
        uuid = as_text(nvml.nvmlDeviceGetUUID(handle))
        yield Found(handle=handle, uuid=uuid, older_name=_older_name(nvml, board, handle))


def _older_name(nvml: Any, board: Any, instance: Any) -> str | None:
    """`MIG-<UUID of the board>/<GPU instance>/<compute instance>`."""
    try:
        of_gpu = nvml.nvmlDeviceGetGpuInstanceId(instance)
        of_compute = nvml.nvmlDeviceGetComputeInstanceId(instance)
    except nvml.NVMLError:
        return None
    return f"{INSTANCE}{as_text(nvml.nvmlDeviceGetUUID(board))}/{of_gpu}/{of_compute}"


def match_uuid(shown: str, gpus: Sequence[Gpu]) -> str | None:
    """NVML's UUID of a GPU that torch gives another form of the UUID for; None if there is none.

    Torch gives the bytes alone, and some versions those of the board for an instance of it.
    """
    bare = shown.lower().removeprefix("gpu-").removeprefix(INSTANCE.lower())
    for gpu in gpus:
        if gpu.uuid.lower().partition("-")[2] == bare:
            return gpu.uuid
    return gpus[0].uuid if len(gpus) == 1 and gpus[0].is_instance else None


def as_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def order_as_listed(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which CUDA numbers GPUs as NVML does, for a process before CUDA starts.

    CUDA's own order has the fastest first, so that `cuda:1` could be another board than the one
    whose joules are read.
    """
    return {**environment, **ORDER}
