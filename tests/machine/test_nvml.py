"""What a board tells through NVML, of older drivers too, and what it does not tell."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from profiling.machine.clock import Time
from profiling.machine.noise import NoiseGate, NoiseLimits
from profiling.machine.nvml import Board, NoBoardEnergy, NotTold, PowerIntegral, open_counter
from profiling.records import UNAVAILABLE, Reading

PRESENT, OLDER = (
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
)
LIMITS = NoiseLimits(
    max_load_per_core=1e9,
    max_foreign_share=1e9,
    max_steal_share=1e9,
    max_pressure_share=1e9,
    max_involuntary_switches_per_s=1e9,
    max_waiting_share=1e9,
    max_clock_drop=0.1,
    board_sample_s=0.001,
)


class NVMLError(Exception):
    pass


def refuse(*_: Any) -> Any:
    raise NVMLError("Function Not Found")


def make_board(**functions: Any) -> Board:
    """A board whose NVML has these functions beside the usual ones."""
    usual: dict[str, Any] = {
        "NVMLError": NVMLError,
        "NVML_CLOCK_SM": 1,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetName": lambda handle: "Board",
        "nvmlDeviceGetClockInfo": lambda handle, kind: 1500,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [1],
        PRESENT: lambda handle: 0,
    }
    kept = {name: value for name, value in (usual | functions).items() if value is not None}
    return Board(nvml=SimpleNamespace(**kept), uuid="GPU-0")


def watch(board: Board, *, looks: int = 4) -> tuple[NoiseGate, dict[str, Reading]]:
    """Until the board was looked at so often, or the watch broke off."""
    with NoiseGate(limits=LIMITS, board=board, cpu_bound=False) as gate:
        deadline = time.monotonic() + 5
        while gate.log.looks < looks and gate.log.failure is None and time.monotonic() < deadline:
            time.sleep(0.001)
    return gate, {reading.metric: reading for reading in gate.readings()}


@pytest.mark.parametrize("lacking", [None, refuse])
def test_an_older_driver_is_asked_by_the_older_name(lacking: Any) -> None:
    """The package lacks the present name, or has it and the driver does not know it."""
    board = make_board(**{PRESENT: lacking, OLDER: lambda handle: 0x08 | 0x04})
    assert board.find_throttling() == ("hardware slowdown",)
    gate, found = watch(board)
    assert gate.reason == "the GPU slowed itself down (hardware slowdown)"
    assert found["noise_gpu_throttled_share"].value == 1.0


def test_a_driver_that_does_not_tell_leaves_a_reason() -> None:
    board = make_board(**{PRESENT: refuse, OLDER: refuse})
    with pytest.raises(NotTold, match="whether it throttles: Function Not Found"):
        board.find_throttling()
    gate, found = watch(board)
    assert gate.reason is None
    row = found["noise_gpu_throttled_share"]
    assert (row.value, row.status) == (None, UNAVAILABLE)
    assert "Function Not Found" in row.source
    assert found["noise_gpu_clock_hz"].value == 1.5e9


def test_a_clock_that_is_not_told_leaves_a_reason() -> None:
    gate, found = watch(make_board(nvmlDeviceGetClockInfo=refuse))
    assert gate.reason is None
    assert found["noise_gpu_clock_hz"].value is None
    assert "its clock: Function Not Found" in found["noise_gpu_clock_hz"].source


def test_processes_that_are_not_told_are_not_counted() -> None:
    gate, _ = watch(make_board(nvmlDeviceGetComputeRunningProcesses=refuse))
    assert gate.reason is None


def test_an_error_in_the_thread_that_watches_is_told() -> None:
    looks = iter(range(3))

    def fall_off_the_bus(handle: Any, kind: int) -> int:
        if next(looks, None) is None:
            raise OSError("the GPU fell off the bus")
        return 1500

    gate, _ = watch(make_board(nvmlDeviceGetClockInfo=fall_off_the_bus), looks=1000)
    assert gate.reason is not None
    assert "not watched to the end (OSError: the GPU fell off the bus)" in gate.reason


def test_an_error_while_power_is_sampled_gives_no_joules() -> None:
    readings = iter([100.0, 100.0])

    def read_w() -> float:
        value = next(readings, None)
        if value is None:
            raise NVMLError("GPU is lost")
        return value

    integral = PowerIntegral(read_w=read_w, name="Board", sample_s=0.001, time=Time())
    with integral.sampling():
        deadline = time.monotonic() + 5
        while integral._failure is None and time.monotonic() < deadline:
            time.sleep(0.001)
        with pytest.raises(NoBoardEnergy, match="GPU is lost"):
            integral.read_j()


def forbid(*_: Any) -> Any:
    raise NVMLError("Insufficient Permissions")


def test_joules_that_this_user_may_not_read_are_integrated_from_power() -> None:
    board = make_board(
        nvmlDeviceGetTotalEnergyConsumption=forbid, nvmlDeviceGetPowerUsage=lambda handle: 5000
    )
    assert isinstance(open_counter(board, sample_s=0.01, time=Time()), PowerIntegral)


def test_a_board_whose_power_may_not_be_read_either_leaves_the_reason() -> None:
    board = make_board(nvmlDeviceGetTotalEnergyConsumption=forbid, nvmlDeviceGetPowerUsage=forbid)
    with pytest.raises(NoBoardEnergy, match="Insufficient Permissions"):
        open_counter(board, sample_s=0.01, time=Time())
