"""NVML: energy, power, clocks and throttling as reported by an NVIDIA board."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from profiling.machine.clock import Time
from profiling.machine.gpus import INSTANCE, as_text, is_partitioned
from profiling.machine.machine import nvidia_driver_present

BOARD = "gpu_board"
NO_BOARD = (
    "NVML has no board for this device: there is no driver, the package nvidia-ml-py is missing, "
    "or the device is one instance of a board (MIG), which counts energy for the whole board only"
)
MILLI = 1e-3
# The longest documented time between two power readings of a board. It cannot be measured while the
# power is constant.
POWER_PERIOD_S = 0.1
# Reasons for abnormal throttling, as bits of NVML's interface; a power cap at full load and an idle
# clock are normal operation.
THROTTLING = {
    "hardware slowdown": 0x08,
    "hardware thermal slowdown": 0x40,
    "hardware power brake": 0x80,
    "software thermal slowdown": 0x20,
}
# The function that tells them, by its present name and by that of older drivers and packages.
_TELLS_THROTTLING = (
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
)


class NotTold(Exception):
    """The board does not tell this; the message is the reason."""


class NoBoardEnergy(Exception):
    """The board reports no energy; the message is the reason."""


class Board:
    """One NVIDIA board, found by the UUID of the device that ran."""

    def __init__(self, *, nvml: Any, uuid: str) -> None:
        self.nvml = nvml
        self.uuid = uuid
        # An instance (MIG) has processes of its own, and all else in common with its board.
        self.instance = nvml.nvmlDeviceGetHandleByUUID(uuid)
        self.handle = self._board_of_instance() if uuid.startswith(INSTANCE) else self.instance
        self.name = as_text(nvml.nvmlDeviceGetName(self.handle))

    def _board_of_instance(self) -> Any:
        return self.nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self.instance)

    @property
    def index(self) -> int:
        """NVML's index of the board, independent of CUDA_VISIBLE_DEVICES."""
        return int(self.nvml.nvmlDeviceGetIndex(self.handle))

    def read_energy_j(self) -> float:
        return self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) * MILLI

    def read_power_w(self) -> float:
        return self.nvml.nvmlDeviceGetPowerUsage(self.handle) * MILLI

    def read_used_bytes(self) -> int:
        """What is allocated on the board or the instance, by all processes together."""
        return int(self.nvml.nvmlDeviceGetMemoryInfo(self.instance).used)

    def read_clock_hz(self) -> float:
        ask = self.nvml.nvmlDeviceGetClockInfo
        megahertz = self._ask("its clock", ask, self.handle, self.nvml.NVML_CLOCK_SM)
        return float(megahertz) * 1e6

    def find_throttling(self) -> tuple[str, ...]:
        """Why the board is throttling now; empty if it is not. `NotTold` where nobody can tell."""
        bits = self._read_throttling()
        return tuple(reason for reason, bit in THROTTLING.items() if bits & bit)

    def _read_throttling(self) -> int:
        refused: NotTold | None = None
        for name in _TELLS_THROTTLING:
            ask = getattr(self.nvml, name, None)
            try:
                return int(self._ask("whether it throttles", ask, self.handle))
            except NotTold as reason:
                refused = reason
        assert refused is not None
        raise refused

    def free_bytes(self) -> int:
        return int(self.nvml.nvmlDeviceGetMemoryInfo(self.handle).free)

    def count_processes(self) -> int:
        """The number of processes that compute on the board, including this one."""
        ask = self.nvml.nvmlDeviceGetComputeRunningProcesses
        return len(self._ask("its processes", ask, self.instance))

    def _ask(self, what: str, ask: Callable[..., Any] | None, *given: Any) -> Any:
        if ask is None:
            raise NotTold(f"{self.name} does not tell {what}: nvidia-ml-py lacks the function")
        try:
            return ask(*given)
        except self.nvml.NVMLError as error:
            problem = str(error) or type(error).__name__
            raise NotTold(f"{self.name} does not tell {what}: {problem}") from None

    def is_shared(self) -> bool:
        """Whether the board is partitioned into instances (MIG) that other programs may use."""
        return is_partitioned(self.nvml, self.handle)


class EnergyCounter:
    """The board's total energy counter."""

    component = BOARD
    longest_window_s = math.inf

    def __init__(self, *, board: Board) -> None:
        self.board = board
        self.source = f"NVML total energy counter of {board.name} ({board.uuid})"

    def read_j(self) -> float:
        try:
            return self.board.read_energy_j()
        except self.board.nvml.NVMLError as error:
            problem = str(error) or type(error).__name__
            raise NoBoardEnergy(f"{self.source} could not be read any more: {problem}") from None

    def read_mark(self) -> float:
        return self.read_j()


class PowerIntegral:
    """Sampled power, integrated over time, for boards without an energy counter.

    A separate thread takes the readings, since a measured pass occupies the main one.
    """

    component = BOARD
    longest_window_s = math.inf

    def __init__(
        self, *, read_w: Callable[[], float], name: str, sample_s: float, time: Time
    ) -> None:
        self.read_w = read_w
        self.sample_s = sample_s
        self.time = time
        self.source = f"NVML power of {name} read every {sample_s:g} s and integrated"
        self._lock = threading.Lock()
        self._failure: Exception | None = None
        self._joules = self._doubt_j = 0.0
        self._last_s, self._last_w = time.now_s(), read_w()

    def advance(self) -> float:
        """Take one reading; returns the joules since this object was created."""
        with self._lock:
            now_s, now_w = self.time.now_s(), self.read_w()
            self._joules += (now_s - self._last_s) * (now_w + self._last_w) / 2
            self._doubt_j += (now_s - self._last_s) * abs(now_w - self._last_w) / 2
            self._last_s, self._last_w = now_s, now_w
            return self._joules

    def read_j(self) -> float:
        # Between two readings far apart the power is not known.
        if self._failure is not None:
            raise NoBoardEnergy(f"the power could not be read any more: {self._failure}")
        return self.advance()

    def read_doubt_j(self) -> float:
        """The largest possible error so far: the power may change at any time between readings.

        Readings that are synchronous with the passes err in the same direction every time.
        """
        with self._lock:
            return self._doubt_j

    def read_mark(self) -> float:
        return self.read_w()

    @contextmanager
    def sampling(self) -> Iterator[Self]:
        stop = threading.Event()
        thread = threading.Thread(target=self._sample, args=(stop,), name="power", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()

    def _sample(self, stop: threading.Event) -> None:
        try:
            while not stop.wait(self.sample_s):
                self.advance()
        except Exception as error:  # whatever it is, the thread that measures has to know
            self._failure = error


@contextmanager
def board_of(uuid: str | None) -> Iterator[Board | None]:
    """The board with this UUID while NVML is open; None if NVML has none."""
    if uuid is None or not nvidia_driver_present():
        yield None
        return
    import pynvml

    pynvml.nvmlInit()
    try:
        yield find_board(pynvml, uuid)
    finally:
        pynvml.nvmlShutdown()


def find_board(nvml: Any, uuid: str) -> Board | None:
    try:
        return Board(nvml=nvml, uuid=uuid)
    except nvml.NVMLError_NotFound:
        return None


def open_counter(board: Board, *, sample_s: float, time: Time) -> EnergyCounter | PowerIntegral:
    """The board's energy counter, or its integrated power if it has none."""
    if board.is_shared():
        raise NoBoardEnergy(
            f"{board.name} is split into instances (MIG) and counts energy for the whole board only"
        )
    # Whatever the driver refuses with: that it cannot tell, that this user may not ask, and others.
    refused = board.nvml.NVMLError
    try:
        board.read_energy_j()
        return EnergyCounter(board=board)
    except refused:
        pass
    try:
        return PowerIntegral(
            read_w=board.read_power_w, name=board.name, sample_s=sample_s, time=time
        )
    except refused as error:
        problem = str(error) or type(error).__name__
        raise NoBoardEnergy(
            f"{board.name} reports neither energy nor power through NVML ({problem}); a newer"
            " driver or a board of the Volta generation or later does"
        ) from error
