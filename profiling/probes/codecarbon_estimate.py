"""CodeCarbon's model of energy as an estimate beside measured joules: offline, nothing written."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from profiling.machine.nvml import board_of

JOULES_PER_KWH = 3.6e6
# Only grams of CO2 depend on the country, and those are not used.
COUNTRY = "USA"
MISSING = "codecarbon is not installed: pip install codecarbon"


class NoEstimate(Exception):
    """There is no estimate; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class ModelledEnergy:
    """Joules that CodeCarbon attributes to a window."""

    cpu_j: float
    ram_j: float
    gpu_j: float | None
    source: str

    @property
    def total_j(self) -> float:
        return self.cpu_j + self.ram_j + (self.gpu_j or 0.0)


class CodeCarbonEstimate:
    """CodeCarbon over a window of work, for one device.

    A CPU run is charged with CPU and RAM only: CodeCarbon's own total holds every GPU of the
    machine, idle ones too.
    """

    def __init__(self, *, gpu_uuid: str | None) -> None:
        self.gpu_uuid = gpu_uuid

    @staticmethod
    def is_installed() -> bool:
        return importlib.util.find_spec("codecarbon") is not None

    def prepare(self) -> threading.Thread:
        """Find the hardware in the background; a measurement waits until that is done.

        The first look takes over a second, nearly all of it a child process of CodeCarbon's
        that sleeps to count the processor's clock.
        """
        thread = threading.Thread(target=self._tracker, name="codecarbon start", daemon=True)
        thread.start()
        return thread

    def measure(self, work: Callable[[], None]) -> ModelledEnergy:
        tracker = self._tracker()
        tracker.start_task()
        try:
            work()
        finally:
            data = tracker.stop_task()
        if self.gpu_uuid and not data.gpu_energy:
            raise NoEstimate("CodeCarbon read no energy from the GPU that ran")
        return ModelledEnergy(
            cpu_j=data.cpu_energy * JOULES_PER_KWH,
            ram_j=data.ram_energy * JOULES_PER_KWH,
            gpu_j=data.gpu_energy * JOULES_PER_KWH if self.gpu_uuid else None,
            source=self._source(),
        )

    def _tracker(self) -> Any:
        with _starting:
            return _start_tracker(self.gpu_uuid)

    def _source(self) -> str:
        parts = "CPU, RAM and this GPU" if self.gpu_uuid else "CPU and RAM"
        version = importlib.metadata.version("codecarbon")
        return f"CodeCarbon {version} offline, whole machine: {parts}"


_starting = threading.Lock()


@cache
def _start_tracker(gpu_uuid: str | None) -> Any:
    from codecarbon import OfflineEmissionsTracker

    # Its constructor talks before it has read the level that it is given below.
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    # What is given here also overrides a user's own configuration file and environment, which
    # could otherwise switch on the network or scale the joules.
    tracker = OfflineEmissionsTracker(
        country_iso_code=COUNTRY,
        output_methods=[],
        emissions_endpoint=False,
        electricitymaps_api_token=False,
        tracking_mode="machine",
        gpu_ids=_indices(gpu_uuid),
        pue=1.0,
        allow_multiple_runs=True,
        log_level="error",
    )
    # An empty task makes every late import now, outside the first real window.
    tracker.start_task()
    tracker.stop_task()
    return tracker


def _indices(gpu_uuid: str | None) -> list[int] | None:
    """CodeCarbon cuts the first letter off a UUID and then finds no board of that name."""
    with board_of(gpu_uuid) as board:
        return [board.index] if board is not None else None
