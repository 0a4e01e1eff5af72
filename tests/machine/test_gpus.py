"""Which GPUs CUDA shows where boards are partitioned, and how torch's UUIDs are matched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from profiling.engines.transformers import cuda_memory
from profiling.errors import ConfigError
from profiling.machine import machine
from profiling.machine.gpus import Gpu, hides_all, list_uuids, match_uuid, visible_gpus
from profiling.machine.machine import available_devices, gpu_uuid, resolve_device
from profiling.machine.nvml import Board, NoBoardEnergy, open_counter
from profiling.runs.worker import _environment

GIBIBYTE = 2**30
FIRST, SECOND = "MIG-11aa22bb", "MIG-11cc33dd"


class NVMLError(Exception):
    pass


class NotFound(NVMLError):
    pass


@dataclass
class PartitionedNvml:
    """Boards by UUID, each with the places for its instances; None is an empty place."""

    boards: Mapping[str, Sequence[str | None]]
    enabled: Sequence[str] = ()
    NVMLError: type[Exception] = NVMLError
    NVMLError_NotFound: type[Exception] = NotFound
    NVMLError_NotSupported: type[Exception] = NVMLError
    NVML_DEVICE_MIG_ENABLE: int = 1
    NVML_CLOCK_SM: int = 1
    computing: dict[str, int] = field(default_factory=dict)

    def nvmlDeviceGetCount(self) -> int:
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return list(self.boards)[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid in list_uuids(self):
            return uuid
        raise NotFound

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetName(self, handle: str) -> str:
        return f"Slice {handle}" if handle.startswith("MIG-") else f"Board {handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(total=GIBIBYTE)

    def nvmlDeviceGetMigMode(self, handle: str) -> tuple[int, int]:
        if handle not in self.boards:
            raise NVMLError
        return int(handle in self.enabled), 1

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:
        return len(self.boards[handle])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, index: int) -> str:
        found = self.boards[handle][index]
        if found is None:
            raise NotFound
        return found

    def nvmlDeviceGetGpuInstanceId(self, handle: str) -> int:
        return 7

    def nvmlDeviceGetComputeInstanceId(self, handle: str) -> int:
        return [one for places in self.boards.values() for one in places].index(handle)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:
        return next(board for board, places in self.boards.items() if handle in places)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[int]:
        return [0] * self.computing.get(handle, 0)

    def nvmlSystemGetDriverVersion(self) -> str:
        return "600.1"


MIXED = PartitionedNvml({"GPU-aa": (None, FIRST, SECOND), "GPU-bb": ()}, enabled=("GPU-aa",))


@pytest.mark.parametrize(
    ("setting", "uuids"),
    [
        # CUDA shows one instance alone, and no board beside it.
        (None, [FIRST]),
        ("0", [FIRST]),
        ("GPU-aa", [FIRST]),
        ("1", ["GPU-bb"]),
        ("1,0", [FIRST]),
        (FIRST, [FIRST]),
        (SECOND, [SECOND]),
        (f"{SECOND},{FIRST}", [SECOND]),
        ("MIG-11cc", [SECOND]),
        ("MIG-11", []),
        ("MIG-99", []),
        # As drivers before 470 called them.
        ("MIG-GPU-aa/7/1", [FIRST]),
        ("MIG-GPU-aa/7/2", [SECOND]),
        ("MIG-GPU-aa/7/9", []),
    ],
)
def test_an_instance_is_shown_by_its_name(setting: str | None, uuids: list[str]) -> None:
    assert [gpu.uuid for gpu in visible_gpus(MIXED, setting)] == uuids


def test_a_partitioned_board_without_instances_shows_nothing() -> None:
    nvml = PartitionedNvml({"GPU-aa": (None, None), "GPU-bb": ()}, enabled=("GPU-aa",))
    assert [gpu.uuid for gpu in visible_gpus(nvml, None)] == ["GPU-bb"]
    assert visible_gpus(nvml, "0") == ()


def show(monkeypatch: pytest.MonkeyPatch, nvml: Any, setting: str | None) -> None:
    """A machine with a torch for CUDA and these boards."""
    monkeypatch.setattr(machine, "torch_has_cuda", lambda: True)
    monkeypatch.setattr(machine, "torch_has_rocm", lambda: False)
    monkeypatch.setattr(machine, "_visible_gpus", lambda: (visible_gpus(nvml, setting), "600.1"))
    monkeypatch.setattr(machine, "_listed_uuids", lambda: list_uuids(nvml))
    if setting is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)


@pytest.mark.parametrize("setting", [SECOND, "MIG-11cc", "MIG-GPU-aa/7/2"])
def test_an_instance_is_a_device(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, MIXED, setting)
    assert available_devices() == ["cpu", "cuda:0"]
    assert resolve_device("auto") == resolve_device("cuda") == "cuda:0"
    assert gpu_uuid("cuda:0") == SECOND


@pytest.mark.parametrize("setting", ["MIG-99", "MIG-11", "GPU-zz", "9", "nonsense"])
def test_a_setting_that_names_no_gpu_is_no_run_on_the_cpu(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, MIXED, setting)
    with pytest.raises(ConfigError, match=f"CUDA_VISIBLE_DEVICES={setting}: .*{SECOND}"):
        resolve_device("auto")
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("setting", ["", "-1", "NoDevFiles"])
def test_gpus_that_are_hidden_on_purpose_leave_the_cpu(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, MIXED, setting)
    assert hides_all(setting)
    assert resolve_device("auto") == "cpu"


# Instances and their board


def test_an_instance_has_the_processes_of_its_own_and_no_joules() -> None:
    nvml = PartitionedNvml(MIXED.boards, MIXED.enabled, computing={SECOND: 1, "GPU-aa": 5})
    board = Board(nvml=nvml, uuid=SECOND)
    assert (board.name, board.count_processes()) == ("Board GPU-aa", 1)
    with pytest.raises(NoBoardEnergy, match="counts energy for the whole board"):
        open_counter(board, sample_s=0.01, time=machine.Any)


# UUIDs


def gpu(uuid: str) -> Gpu:
    return Gpu(index=0, name="", uuid=uuid, memory_bytes=1)


@pytest.mark.parametrize(
    ("shown", "uuids", "found"),
    [
        ("aa-1", ["GPU-aa-1", "GPU-bb-2"], "GPU-aa-1"),
        ("bb-2", ["GPU-aa-1", "GPU-bb-2"], "GPU-bb-2"),
        ("BB-2", ["GPU-aa-1", "GPU-bb-2"], "GPU-bb-2"),
        ("GPU-bb-2", ["GPU-aa-1", "GPU-bb-2"], "GPU-bb-2"),
        ("cc-3", ["GPU-aa-1"], None),
        ("11cc33dd", [SECOND], SECOND),
        # The board's, for an instance of it.
        ("aa-1", [SECOND], SECOND),
    ],
)
def test_torchs_uuid_is_matched(shown: str, uuids: list[str], found: str | None) -> None:
    assert match_uuid(shown, [gpu(uuid) for uuid in uuids]) == found


def test_the_device_of_torch_and_that_of_nvml_are_the_same_board(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CUDA's own order has the fastest first: the joules still are those of the board that ran."""
    show(monkeypatch, PartitionedNvml({"GPU-slow-1": (), "GPU-fast-2": ()}), None)
    fastest_first = ["fast-2", "slow-1"]
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: SimpleNamespace(uuid=fastest_first[device.index]),
    )
    assert cuda_memory.cuda_uuid(torch.device("cuda", 0)) == "GPU-fast-2"
    assert cuda_memory.cuda_uuid(torch.device("cuda", 1)) == "GPU-slow-1"
    assert cuda_memory.cuda_uuid(torch.device("cpu")) is None


@pytest.mark.parametrize("before", [None, "FASTEST_FIRST"])
def test_a_worker_counts_gpus_as_nvml_does(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", before)
    assert _environment(threads=1)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
