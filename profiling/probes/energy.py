"""Energy probe: joules a sample, measured where a counter can be read, estimated beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Protocol

from profiling.engines.workload import Rotation, Workload
from profiling.machine.clock import Time
from profiling.machine.machine import gpu_uuid, why_no_joules
from profiling.machine.nvml import NoBoardEnergy
from profiling.probes.codecarbon_estimate import (
    MISSING,
    CodeCarbonEstimate,
    ModelledEnergy,
    NoEstimate,
)
from profiling.probes.energy_measurement import (
    CannotMeasure,
    EnergySettings,
    Measurement,
    measure_nothing,
)
from profiling.probes.instruments import Instruments, open_instruments
from profiling.records import ESTIMATED, Reading, reading, unavailable

ELSEWHERE = "the engine runs on no device of this machine"


class Estimator(Protocol):
    def measure(self, work: Callable[[], None]) -> ModelledEnergy: ...


def estimator_of(gpu_uuid: str | None) -> Estimator:
    return CodeCarbonEstimate(gpu_uuid=gpu_uuid)


OpenInstruments = Callable[..., AbstractContextManager[Instruments]]


@dataclass(frozen=True, kw_only=True)
class EnergyProbe(EnergySettings):
    """Fills windows with whole passes and reads the counters around them."""

    timed: ClassVar[bool] = True
    # It waits for idle power to settle.
    idles: ClassVar[bool] = True

    open_instruments: OpenInstruments = open_instruments
    estimator: Callable[[str | None], Estimator] = estimator_of

    @staticmethod
    def prepare(device: str) -> threading.Thread | None:
        """Start the slow part of the estimate's start in the background, while nothing is timed."""
        if why_no_joules(device) is not None or not CodeCarbonEstimate.is_installed():
            return None
        return CodeCarbonEstimate(gpu_uuid=gpu_uuid(device)).prepare()

    def measure(self, workload: Workload) -> Iterator[Reading]:
        footprint = workload.engine.footprint()
        if not footprint.on_cpu and footprint.gpu_uuid is None:
            reason = footprint.shared or footprint.unmetered or ELSEWHERE
            yield from measure_nothing(reason)
            yield unavailable("energy_estimate_j", reason)
            return
        for found in self._read(workload, footprint.gpu_uuid):
            yield _marked(found, footprint.shared)

    def _read(self, workload: Workload, gpu_uuid: str | None) -> Iterator[Reading]:
        sample_s = self.power_sample_s
        with self.open_instruments(gpu_uuid, power_sample_s=sample_s) as instruments:
            yield from self._measured(workload, instruments)
        yield from self._estimated(workload, gpu_uuid)

    def _measured(self, workload: Workload, instruments: Instruments) -> Iterator[Reading]:
        for component, reason in instruments.missing.items():
            yield unavailable(f"energy_{component}_j", reason)
        try:
            session = Measurement(settings=self, instruments=instruments, workload=workload)
        except (CannotMeasure, NoBoardEnergy) as reason:
            yield from measure_nothing(str(reason))
            return
        yield from session.readings()

    def _estimated(self, workload: Workload, gpu_uuid: str | None) -> Iterator[Reading]:
        if not CodeCarbonEstimate.is_installed():
            yield unavailable("energy_estimate_j", MISSING)
            return
        samples = 0

        def fill() -> None:
            nonlocal samples
            samples = _fill(workload, at_least_s=self.estimate_s, time=Time())

        try:
            modelled = self.estimator(gpu_uuid).measure(fill)
        except NoEstimate as reason:
            yield unavailable("energy_estimate_j", str(reason))
            return
        yield from _estimate_readings(modelled, samples)


def _marked(reading: Reading, shared: str | None) -> Reading:
    """Joules with the reason why they are not the engine's alone, where there is one."""
    if shared is None or reading.value is None or reading.unit != "J":
        return reading
    return replace(reading, source=f"{reading.source}; {shared}")


def _fill(workload: Workload, *, at_least_s: float, time: Time) -> int:
    """Whole passes for at least that long; how many samples they held."""
    batches, started_s, passes = Rotation(workload), time.now_s(), 0
    while passes == 0 or time.now_s() - started_s < at_least_s:
        batches.run()
        passes += 1
    workload.engine.synchronize()
    return passes * workload.batch_size


def _estimate_readings(modelled: ModelledEnergy, samples: int) -> Iterator[Reading]:
    row = partial(reading, status=ESTIMATED, source=modelled.source)
    parts = {"cpu": modelled.cpu_j, "ram": modelled.ram_j, "gpu": modelled.gpu_j}
    yield row(metric="energy_estimate_j", value=modelled.total_j / samples)
    for part, joules in parts.items():
        if joules is not None:
            yield row(metric=f"energy_estimate_{part}_j", value=joules / samples)


PROBE = EnergyProbe
