"""Compares the memory probe with blocks, a cache and weights of known size."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from profiling.engines.engine import Footprint
from profiling.engines.transformers.cuda_memory import CudaMemory, cuda_memory
from profiling.engines.transformers.held_memory import read_cache, read_weights
from profiling.engines.transformers.metal_memory import metal_memory
from profiling.probes.memory import GpuPeak, MemoryProbe
from profiling.records import Reading
from profiling.selfcheck.finding import Finding, cannot, compare

BLOCK_BYTES = 128 * 2**20
# Pages of the interpreter and its libraries are allocated and freed beside the known block.
TOLERANCE = 0.05
BATCH_SIZE, LAYERS, HEADS, TOKENS, WIDTH = 2, 3, 4, 5, 8
FLOAT_BYTES = 4


class Remembering(nn.Module):
    """A network that returns a cache of known size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 64)

    def forward(self) -> SimpleNamespace:
        cache = DynamicCache()
        shape = (BATCH_SIZE, HEADS, TOKENS, WIDTH)
        for layer in range(LAYERS):
            cache.update(torch.zeros(shape), torch.zeros(shape), layer)
        return SimpleNamespace(past_key_values=cache)


class AllocatingEngine:
    """What the memory probe asks of an engine, for a network of known size."""

    def __init__(self, *, device: torch.device) -> None:
        self.device = device
        self.network = Remembering()

    def begin_pass(self) -> None: ...

    def synchronize(self) -> None: ...

    def footprint(self) -> Footprint:
        return Footprint(
            pids=(os.getpid(),),
            device=str(self.device),
            gpu_uuid=None,
            dtype="float32",
            computes_in="float32",
            model_bytes=None,
            accelerator=cuda_memory(self.device) or metal_memory(self.device),
        )

    def memory_readings(self, workload: Any) -> Iterator[Reading]:
        parts = {"projector": [], "language": [self.network.layer]}
        yield from read_cache(self.network, lambda: workload.run(0))
        yield from read_weights(self.network, parts)


class Allocating:
    """A workload whose passes allocate and free a block of known size on their device."""

    batch_size = BATCH_SIZE
    batches: tuple[tuple[()], ...] = ((),)

    def __init__(self, *, device: torch.device, hold_s: float) -> None:
        self.hold_s = hold_s
        self.engine = AllocatingEngine(device=device)

    def run(self, index: int, *, max_new_tokens: int | None = None) -> None:
        self.fill(BLOCK_BYTES)
        self.engine.network()

    def fill(self, size: int) -> None:
        """Write to every page: the kernel allocates none before."""
        block = torch.ones(size, dtype=torch.uint8, device=self.engine.device)
        time.sleep(self.hold_s)
        del block


def check_on_host(settings: Mapping[str, Any]) -> Iterator[Finding]:
    """A higher peak before the passes must not be counted."""
    found = _measure("cpu", settings)
    delta = found["cpu_memory_delta_bytes"].value
    before = (found["cpu_memory_peak_bytes"].value or 0) - (delta or 0)
    sampled = (found["cpu_memory_sampled_peak_bytes"].value or 0) - before
    yield _block("memory: peak above the loaded model", delta)
    yield _block("memory: the same by sampling", sampled)
    per_token = 2 * LAYERS * HEADS * WIDTH * FLOAT_BYTES
    cache = {
        "kv_cache_bytes_per_token": per_token,
        "kv_cache_bytes": BATCH_SIZE * TOKENS * per_token,
        "weights_language_bytes": (16 + 1) * 64 * FLOAT_BYTES,
    }
    for metric, known in cache.items():
        yield compare(
            f"memory: {metric}", expected=known, found=found[metric].value, unit="B", tolerance=0
        )


def _measure(device: str, settings: Mapping[str, Any]) -> dict[str, Reading]:
    workload = Allocating(
        device=torch.device(device), hold_s=5 * float(settings["sample_interval_s"])
    )
    workload.fill(3 * BLOCK_BYTES)
    return {r.metric: r for r in MemoryProbe(**settings).measure(workload)}  # type: ignore[arg-type]


def _block(check: str, found: float | None) -> Finding:
    return compare(check, expected=BLOCK_BYTES, found=found, unit="B", tolerance=TOLERANCE)


def check_on_gpu(device: str, settings: Mapping[str, Any]) -> Iterator[Finding]:
    """The same with the GPU's allocator, if there is a GPU."""
    name = "memory: peak on the GPU above the model"
    if device == "cpu":
        yield cannot(name, expected=f"{BLOCK_BYTES:,} B", why="no GPU is used here")
        return
    yield _block(name, _measure(device, settings)["gpu_memory_delta_bytes"].value)


class SimulatedAllocator:
    """Simulates the memory statistics of `torch.cuda`."""

    model_bytes, earlier_bytes, taken_bytes = 1_000_000, 5_000_000, 300_000

    def __init__(self) -> None:
        self.peak_bytes = self.earlier_bytes

    def synchronize(self, device: Any) -> None: ...

    def empty_cache(self) -> None: ...

    def reset_peak_memory_stats(self, device: Any) -> None:
        self.peak_bytes = self.model_bytes

    def memory_allocated(self, device: Any) -> int:
        return self.model_bytes

    def max_memory_allocated(self, device: Any) -> int:
        return self.peak_bytes

    def max_memory_reserved(self, device: Any) -> int:
        return self.peak_bytes

    def take(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self.model_bytes + self.taken_bytes)


def check_on_simulated_gpu() -> Iterator[Finding]:
    allocator = SimulatedAllocator()
    peak = GpuPeak(accelerator=CudaMemory(counts=allocator, device=None))
    peak.reset()
    allocator.take()
    peak.read()
    found = {reading.metric: reading.value for reading in peak.readings()}
    taken, model = allocator.taken_bytes, allocator.model_bytes
    known = {"gpu_memory_delta_bytes": taken, "gpu_memory_peak_bytes": model + taken}
    for metric, expected in known.items():
        yield compare(
            f"memory, simulated GPU: {metric}",
            expected=expected,
            found=found[metric],
            unit="B",
            tolerance=0,
        )
