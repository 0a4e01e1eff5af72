"""The memory probe against allocations of known size and a GPU of made-up numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from profiling.engines.engine import Accelerator, Footprint
from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.workload import Workload
from profiling.machine.clock import Time
from profiling.machine.peak_watch import KERNEL
from profiling.probes.memory import NOT_HERE, ON_CPU, GpuPeak, MemoryProbe
from profiling.records import DERIVED, MEASURED, UNAVAILABLE, Reading
from tests.tiny_models import load, take_samples

MEBIBYTE = 2**20
BIG = 96 * MEBIBYTE
# Pages of the interpreter come and go beside the known block.
SLACK = 8 * MEBIBYTE


def fill(size: int) -> None:
    """Take so many bytes, touch every page, give them back."""
    b"\1" * size


class Taking:
    """A workload whose passes take a block each, of a known size by batch."""

    batch_size = 2

    def __init__(self, *sizes: int, **footprint: Any) -> None:
        self.sizes = sizes
        self.batches = [[]] * len(sizes)
        self.ran: list[int] = []
        self.engine = self
        facts: dict[str, Any] = {"pids": (os.getpid(),), "device": "cpu", "gpu_uuid": None}
        facts |= {"dtype": None, "computes_in": None, "model_bytes": None, "accelerator": None}
        self.footprint = lambda: Footprint(**(facts | footprint))

    def begin_pass(self) -> None: ...

    def synchronize(self) -> None: ...

    def memory_readings(self, workload: Any) -> Iterator[Reading]:
        yield Reading(
            phase="run",
            metric="weights_all_bytes",
            value=7,
            unit="bytes",
            status=DERIVED,
            source="told by the engine",
        )

    def run(self, index: int, *, max_new_tokens: int | None = None) -> None:
        self.ran.append(index)
        fill(self.sizes[index])


def measure(workload: Any, *, passes: int = 8) -> dict[str, Reading]:
    readings = list(MemoryProbe(passes=passes, sample_interval_s=0.005).measure(workload))
    assert len({reading.metric for reading in readings}) == len(readings)
    return {reading.metric: reading for reading in readings}


def test_the_probe_finds_a_block_of_known_size() -> None:
    workload = Taking(BIG)
    workload.run(0)
    found = measure(workload)
    delta = found["cpu_memory_delta_bytes"]
    assert delta.status == MEASURED
    assert delta.value == pytest.approx(BIG, abs=SLACK)
    peak = found["peak_memory_bytes"]
    assert (peak.value, peak.status) == (found["cpu_memory_peak_bytes"].value, MEASURED)
    assert peak.source.startswith(KERNEL)
    for metric in ("gpu_memory_peak_bytes", "gpu_memory_delta_bytes"):
        assert (found[metric].value, found[metric].status) == (None, UNAVAILABLE)
        assert found[metric].source == ON_CPU


def test_what_the_engine_knows_of_its_memory_is_handed_on() -> None:
    assert measure(Taking(0))["weights_all_bytes"].value == 7


# Processes

CHILD = """
import sys
for line in sys.stdin:
    b"\\1" * int(line)
    print("done", flush=True)
"""


def test_an_engine_of_other_processes_is_charged_with_theirs() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None and child.stdout is not None
    streams = child.stdin, child.stdout

    class Asking(Taking):
        def run(self, index: int, *, max_new_tokens: int | None = None) -> None:
            print(BIG, file=streams[0], flush=True)
            assert streams[1].readline() == "done\n"
            fill(BIG)

    try:
        # Once more than is measured, so that the child has started.
        Asking(0).run(0)
        alone = measure(Asking(0, pids=(child.pid,)))
        both = measure(Asking(0, pids=(child.pid, os.getpid())))
    finally:
        child.kill()
        child.communicate()
    assert alone["cpu_memory_delta_bytes"].value == pytest.approx(BIG, abs=SLACK)
    assert both["cpu_memory_delta_bytes"].value == pytest.approx(2 * BIG, abs=2 * SLACK)
    assert "sum of the peaks of 2 processes" in both["peak_memory_bytes"].source


def test_an_engine_of_no_process_here_has_no_memory_here() -> None:
    found = measure(Taking(0, pids=(), device="elsewhere"))
    absent = {"peak_memory_bytes", "cpu_memory_peak_bytes", "cpu_memory_delta_bytes"}
    absent |= {"gpu_memory_peak_bytes", "gpu_memory_delta_bytes", "cpu_memory_sampled_peak_bytes"}
    for metric in absent:
        assert (found[metric].value, found[metric].status) == (None, UNAVAILABLE)
        assert found[metric].source == NOT_HERE


# GPU


@dataclass
class Board:
    """A GPU's memory as its allocator counts it: peaks stay until they are reset."""

    source: str = "counted by the allocator"
    reserved_source: str = "held by the allocator"
    allocated: int = 1000
    peak: int = 9999

    def reset(self) -> None:
        self.peak = self.allocated

    def allocated_bytes(self) -> int:
        return self.allocated

    def peak_bytes(self) -> int:
        return self.peak

    def peak_reserved_bytes(self) -> int:
        return self.peak + 24

    def take(self, size: int) -> None:
        self.peak = max(self.peak, self.allocated + size)


def test_a_gpu_peak_is_that_since_the_reset() -> None:
    board = Board()
    accelerator: Accelerator = board
    gpu = GpuPeak(accelerator=accelerator)
    gpu.reset()
    board.take(300)
    gpu.read()
    found = {reading.metric: reading for reading in gpu.readings()}
    assert found["gpu_memory_peak_bytes"].value == 1300
    assert found["gpu_memory_delta_bytes"].value == 300
    assert found["gpu_memory_reserved_peak_bytes"].value == 1324


def test_on_a_gpu_the_headline_is_what_tensors_took() -> None:
    board = Board()

    class OnBoard(Taking):
        def run(self, index: int, *, max_new_tokens: int | None = None) -> None:
            board.take(self.sizes[index])

    found = measure(OnBoard(50, 400, 20, device="cuda:0", accelerator=board))
    assert found["peak_memory_bytes"].value == 1400
    assert found["peak_memory_bytes"].source.startswith(board.source)
    assert found["gpu_memory_delta_bytes"].value == 400


# Batches


@pytest.mark.parametrize("position", [0, 3, 5])
def test_the_largest_batch_counts_wherever_it_stands(position: int) -> None:
    sizes = [MEBIBYTE] * 6
    sizes[position] = BIG
    workload = Taking(*sizes)
    found = measure(workload)
    assert sorted(workload.ran) == [0, 1, 2, 3, 4, 5]
    assert found["cpu_memory_delta_bytes"].value == pytest.approx(BIG, abs=SLACK)


def test_a_share_of_many_batches_is_stated_as_one() -> None:
    workload = Taking(*[MEBIBYTE] * 10)
    found = measure(workload, passes=4)
    assert len(set(workload.ran)) == len(workload.ran) == 4
    for metric in ("peak_memory_bytes", "cpu_memory_peak_bytes", "cpu_memory_delta_bytes"):
        assert found[metric].source.endswith("; highest of 4 of 10 batches")
    assert measure(Taking(0))["peak_memory_bytes"].source.endswith("; highest of 1 of 1 batches")


def test_batches_that_do_not_fit_into_the_time_budget_are_left_out() -> None:
    """At least one is run, and the sources say of how many the peak is."""
    clock = iter(range(0, 1000, 60))
    time = Time(now_s=lambda: float(next(clock)))
    workload = Taking(*[MEBIBYTE] * 10)
    probe = MemoryProbe(passes=8, sample_interval_s=0.005, time_budget_s=100.0, time=time)
    found = {r.metric: r for r in probe.measure(workload)}  # type: ignore[arg-type]
    assert len(workload.ran) == 2
    assert found["peak_memory_bytes"].source.endswith("; highest of 2 of 10 batches")


@pytest.mark.parametrize(
    "sizes", [(BIG, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, BIG), (0, BIG, 0, 0, 0, 0)]
)
def test_the_order_of_samples_does_not_matter(sizes: tuple[int, ...]) -> None:
    """What a pass takes is known here: what the heap keeps of real passes varies by a third."""
    workload = Taking(*sizes)
    assert measure(workload)["cpu_memory_delta_bytes"].value == pytest.approx(BIG, abs=SLACK)
    small = Taking(*[0] * len(sizes))
    assert (measure(small)["cpu_memory_delta_bytes"].value or 0) < SLACK


def test_every_batch_of_a_model_is_run_wherever_the_long_one_stands() -> None:
    engine = load("llava")
    for position in (0, 5):
        samples = list(take_samples(6))
        samples[position] = replace(samples[position], request="what is it? " * 250)
        workload = Workload(
            engine=engine,
            batches=[[sample] for sample in samples],
            img_size=112,
            prompt_len=None,
            max_new_tokens=1,
            preload=True,
        )
        lengths: list[int] = []
        count_tokens(engine, workload, lengths)
        measure(workload)
        # One more pass is taken for the keys and values, of the first batch.
        assert len([length for length in lengths if length > 700]) == (2 if position == 0 else 1)


def count_tokens(engine: TransformersEngine, workload: Workload, lengths: list[int]) -> None:
    """Note how long the prompt of each pass is."""
    encode = workload.encode

    def note(index: int) -> Any:
        inputs = encode(index)
        lengths.append(inputs["input_ids"].shape[1])
        return inputs

    workload.encode = note  # type: ignore[method-assign]
