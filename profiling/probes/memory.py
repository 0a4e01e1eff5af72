"""Memory probe: peaks of resident and of GPU memory while batches run, above the loaded model."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from profiling.engines.engine import Accelerator, Footprint
from profiling.engines.workload import Rotation, Workload
from profiling.machine.clock import Time
from profiling.machine.peak_watch import PeakWatch
from profiling.machine.resident import SELF
from profiling.records import MEASURED, Reading, reading, unavailable

ON_CPU = "the run is on the CPU"
NOT_HERE = "the engine runs in no process of this machine that is known"
_CPU_METRICS = (
    "cpu_memory_peak_bytes",
    "cpu_memory_delta_bytes",
    "cpu_memory_sampled_peak_bytes",
)


class MemoryProbe:
    """Resets every peak, runs each batch once, and reads the peaks afterwards.

    Of more batches than `passes`, or than fit into the time budget, only so many are run: a fair
    sample, as the sources say.
    """

    timed = True

    def __init__(
        self,
        *,
        passes: int,
        sample_interval_s: float,
        time_budget_s: float = math.inf,
        time: Time = Time(),  # noqa: B008 (it has no state)
    ) -> None:
        self.passes = passes
        self.sample_interval_s = sample_interval_s
        self.time_budget_s = time_budget_s
        self.time = time

    def measure(self, workload: Workload) -> Iterator[Reading]:
        footprint = workload.engine.footprint()
        gpu = watch_gpu(footprint)
        batches = Rotation(workload)
        with ExitStack() as watched:
            cpu = [watched.enter_context(watch) for watch in self._watches(footprint)]
            gpu.reset()
            passes = self._run(batches)
            workload.engine.synchronize()
            gpu.read()
        missing = footprint.shared or NOT_HERE
        found = (_headline(cpu, gpu, missing), *_resident(cpu, missing), *gpu.readings())
        yield from _add_to_sources(found, f"highest of {passes} of {len(batches)} batches")
        yield from workload.engine.memory_readings(workload)

    def _run(self, batches: Rotation) -> int:
        """Run each batch once, at least one; how many were run."""
        begun_s, passes = self.time.now_s(), 0
        while passes < min(self.passes, len(batches)):
            batches.run()
            passes += 1
            if self.time.now_s() - begun_s >= self.time_budget_s:
                break
        return passes

    def _watches(self, footprint: Footprint) -> list[PeakWatch]:
        interval_s = self.sample_interval_s
        return [PeakWatch(sample_interval_s=interval_s, proc=_proc(pid)) for pid in footprint.pids]


def _add_to_sources(readings: Iterable[Reading], what: str) -> Iterator[Reading]:
    for row in readings:
        yield row if row.value is None else replace(row, source=f"{row.source}; {what}")


def _proc(pid: int) -> Path:
    return SELF if pid == os.getpid() else Path("/proc") / str(pid)


def _headline(cpu: Sequence[PeakWatch], gpu: GpuPeak | NoGpu, missing: str) -> Reading:
    total = partial(reading, metric="peak_memory_bytes", status=MEASURED)
    if isinstance(gpu, GpuPeak):
        return total(value=gpu.peak_bytes, source=gpu.source)
    if not cpu:
        return unavailable("peak_memory_bytes", missing)
    return total(value=sum(watch.peak_bytes for watch in cpu), source=_source(cpu))


def _resident(cpu: Sequence[PeakWatch], missing: str) -> Iterator[Reading]:
    """Resident memory of the engine's processes together."""
    if not cpu:
        for metric in _CPU_METRICS:
            yield unavailable(metric, missing)
        return
    peak = sum(watch.peak_bytes for watch in cpu)
    above = "above resident memory with the model loaded, before the passes"
    sampled = f"highest of samples of resident memory every {cpu[0].sample_interval_s:g} s"
    row = partial(reading, status=MEASURED)
    yield row(metric="cpu_memory_peak_bytes", value=peak, source=_source(cpu))
    yield row(
        metric="cpu_memory_delta_bytes",
        value=peak - sum(watch.before_bytes for watch in cpu),
        source=f"{_source(cpu)}; {above}",
    )
    yield row(
        metric="cpu_memory_sampled_peak_bytes",
        value=sum(watch.sampled_peak_bytes for watch in cpu),
        source=sampled,
    )


def _source(cpu: Sequence[PeakWatch]) -> str:
    together = f"; sum of the peaks of {len(cpu)} processes" if len(cpu) > 1 else ""
    return cpu[0].source + together


# GPU memory


def watch_gpu(footprint: Footprint) -> GpuPeak | NoGpu:
    if footprint.accelerator is not None:
        return GpuPeak(accelerator=footprint.accelerator)
    return NoGpu(ON_CPU if footprint.on_cpu else footprint.shared or NOT_HERE)


class NoGpu:
    """Stands for the GPU where its memory cannot be read, and says so in its readings."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def reset(self) -> None: ...

    def read(self) -> None: ...

    def readings(self) -> Iterator[Reading]:
        yield unavailable("gpu_memory_peak_bytes", self._reason)
        yield unavailable("gpu_memory_delta_bytes", self._reason)


class GpuPeak:
    """The highest memory of a GPU between a reset and a read."""

    def __init__(self, *, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.source = accelerator.source
        self.before_bytes = self.peak_bytes = self.reserved_bytes = 0

    def reset(self) -> None:
        self.accelerator.reset()
        self.before_bytes = self.accelerator.allocated_bytes()

    def read(self) -> None:
        self.peak_bytes = self.accelerator.peak_bytes()
        self.reserved_bytes = self.accelerator.peak_reserved_bytes()

    def readings(self) -> Iterator[Reading]:
        row = partial(reading, status=MEASURED)
        yield row(metric="gpu_memory_peak_bytes", value=self.peak_bytes, source=self.source)
        yield row(
            metric="gpu_memory_delta_bytes",
            value=self.peak_bytes - self.before_bytes,
            source=f"{self.source}; above what was allocated with the model loaded",
        )
        yield row(
            metric="gpu_memory_reserved_peak_bytes",
            value=self.reserved_bytes,
            source=self.accelerator.reserved_source,
        )


PROBE = MemoryProbe
