"""Memory probe: peaks of resident and of GPU memory while batches run, above the loaded model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from profiling.machine.resident import (
    SELF,
    ResidentSampler,
    give_back_freed_memory,
    read_high_water_bytes,
    reset_high_water_mark,
)
from profiling.models.storage import stored_tensors
from profiling.records import DERIVED, MEASURED, Reading, unavailable

if TYPE_CHECKING:
    from profiling.engines.workload import Workload
    from profiling.models.model import Model

KERNEL = "high-water mark of resident memory kept by the kernel (VmHWM), reset before the passes"
ON_CPU = "the run is on the CPU"


class Accelerator(Protocol):
    """The part of `torch.cuda` that keeps count of a GPU's memory."""

    def synchronize(self, device: Any) -> None: ...
    def empty_cache(self) -> None: ...
    def reset_peak_memory_stats(self, device: Any) -> None: ...
    def memory_allocated(self, device: Any) -> int: ...
    def max_memory_allocated(self, device: Any) -> int: ...
    def max_memory_reserved(self, device: Any) -> int: ...


class MemoryProbe:
    """Runs whole batches with every peak reset first, and reads the peaks afterwards."""

    def __init__(self, *, passes: int, sample_interval_s: float) -> None:
        self.passes = passes
        self.sample_interval_s = sample_interval_s

    def measure(self, workload: Workload) -> Iterator[Reading]:
        device = workload.model.device
        gpu = _watch_gpu(device)
        with PeakWatch(sample_interval_s=self.sample_interval_s) as cpu:
            gpu.reset()
            for index in range(self.passes):
                workload.run(index)
            gpu.read()
        yield from _headline(cpu, gpu)
        yield from cpu.readings()
        yield from gpu.readings()
        yield from read_cache(workload)
        yield from read_weights(workload.model)


def _headline(cpu: PeakWatch, gpu: GpuPeak | NoGpu) -> Iterator[Reading]:
    total = partial(Reading, phase="total", metric="peak_memory_bytes", unit="bytes")
    if isinstance(gpu, GpuPeak):
        yield total(value=gpu.peak_bytes, status=MEASURED, source=gpu.source)
    else:
        yield total(value=cpu.peak_bytes, status=MEASURED, source=cpu.source)


# Resident memory of this process


class PeakWatch:
    """The highest resident memory of this process between entering and leaving, in bytes.

    The kernel's own mark sees every page; the sampler is the cross-check, and takes over where
    the mark cannot be reset.
    """

    def __init__(self, *, sample_interval_s: float, proc: Path = SELF) -> None:
        self.proc = proc
        self.sample_interval_s = sample_interval_s
        self.before_bytes = self.peak_bytes = 0
        self.source = ""
        self._sampler = ResidentSampler(interval_s=sample_interval_s, proc=proc)

    @property
    def sampled_peak_bytes(self) -> int:
        return self._sampler.peak_bytes

    def __enter__(self) -> Self:
        give_back_freed_memory()
        self._is_reset = reset_high_water_mark(self.proc)
        self.before_bytes = self._sampler.__enter__().before_bytes
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sampler.__exit__(kind, error, trace)
        if self._is_reset:
            self.peak_bytes, self.source = read_high_water_bytes(self.proc), KERNEL
        else:
            self.peak_bytes = self.sampled_peak_bytes
            self.source = (
                f"highest of samples of resident memory every {self.sample_interval_s:g} s (the "
                "kernel's high-water mark cannot be reset here): shorter peaks are missed"
            )

    def readings(self) -> Iterator[Reading]:
        reading = partial(Reading, phase="total", unit="bytes")
        delta = self.peak_bytes - self.before_bytes
        above = f"{self.source}; above resident memory with the model loaded, before the passes"
        sampled = f"highest of samples of resident memory every {self.sample_interval_s:g} s"
        yield reading(
            metric="cpu_memory_peak_bytes",
            value=self.peak_bytes,
            status=MEASURED,
            source=self.source,
        )
        yield reading(metric="cpu_memory_delta_bytes", value=delta, status=MEASURED, source=above)
        yield reading(
            metric="cpu_memory_sampled_peak_bytes",
            value=self.sampled_peak_bytes,
            status=MEASURED,
            source=sampled,
        )


# GPU memory


def _watch_gpu(device: Any) -> GpuPeak | NoGpu:
    if device.type != "cuda":
        return NoGpu()
    import torch

    return GpuPeak(accelerator=torch.cuda, device=device)


class NoGpu:
    """Stands for the GPU where there is none, and says so in its readings."""

    def reset(self) -> None: ...

    def read(self) -> None: ...

    def readings(self) -> Iterator[Reading]:
        yield unavailable("total", "gpu_memory_peak_bytes", "bytes", ON_CPU)
        yield unavailable("total", "gpu_memory_delta_bytes", "bytes", ON_CPU)


class GpuPeak:
    source = "peak of bytes allocated by tensors (torch.cuda.max_memory_allocated), reset before"

    def __init__(self, *, accelerator: Accelerator, device: Any) -> None:
        self.accelerator = accelerator
        self.device = device
        self.before_bytes = self.peak_bytes = self.reserved_bytes = 0

    def reset(self) -> None:
        self.accelerator.synchronize(self.device)
        # Cached blocks of earlier passes would count as reserved by this one.
        self.accelerator.empty_cache()
        self.accelerator.reset_peak_memory_stats(self.device)
        self.before_bytes = self.accelerator.memory_allocated(self.device)

    def read(self) -> None:
        self.accelerator.synchronize(self.device)
        self.peak_bytes = self.accelerator.max_memory_allocated(self.device)
        self.reserved_bytes = self.accelerator.max_memory_reserved(self.device)

    def readings(self) -> Iterator[Reading]:
        reading = partial(Reading, phase="total", unit="bytes", status=MEASURED)
        yield reading(metric="gpu_memory_peak_bytes", value=self.peak_bytes, source=self.source)
        yield reading(
            metric="gpu_memory_delta_bytes",
            value=self.peak_bytes - self.before_bytes,
            source=f"{self.source}; above what was allocated with the model loaded",
        )
        yield reading(
            metric="gpu_memory_reserved_peak_bytes",
            value=self.reserved_bytes,
            source="peak of bytes held by the allocator (torch.cuda.max_memory_reserved)",
        )


# The cache of keys and values


@dataclass(kw_only=True)
class CacheSize:
    """Bytes of keys and values that a generation holds at its end."""

    growing_bytes: int = 0
    fixed_bytes: int = 0
    sequences: int = 0
    tokens: int = 0

    @property
    def bytes_per_token(self) -> float:
        return self.growing_bytes / (self.sequences * self.tokens)


def read_cache(workload: Workload) -> Iterator[Reading]:
    """What one more token of context costs, from the cache that one batch really built."""
    source = "bytes of the key and value tensors after one batch"
    # One of fixed length is as long after the first token as after the last, and a network whose
    # steps are compiled would be compiled again for the hooks.
    length = 1 if workload.model.has_fixed_cache else None
    with watch_cache(workload.model.network) as size:
        workload.run(0, max_new_tokens=length)
    if not size.tokens:
        reason = "no module of this model returned a cache of keys and values"
        yield unavailable("decode", "kv_cache_bytes_per_token", "bytes", reason)
        return
    reading = partial(Reading, phase="decode", unit="bytes", source=source)
    yield reading(metric="kv_cache_bytes_per_token", value=size.bytes_per_token, status=DERIVED)
    yield reading(
        metric="kv_cache_bytes", value=size.growing_bytes + size.fixed_bytes, status=MEASURED
    )


@contextmanager
def watch_cache(network: Any) -> Iterator[CacheSize]:
    """Keep the size of the last cache that any module of the network returns."""
    size = CacheSize()

    def look(module: Any, inputs: Any, output: Any) -> None:
        cache = getattr(output, "past_key_values", None)
        if cache is not None:
            _weigh(cache, size)

    handles = [module.register_forward_hook(look) for module in network.modules()]
    try:
        yield size
    finally:
        for handle in handles:
            handle.remove()


def _weigh(cache: Any, size: CacheSize) -> None:
    growing = getattr(cache, "self_attention_cache", cache)
    fixed = getattr(cache, "cross_attention_cache", None)
    size.growing_bytes = _cache_bytes(growing)
    # Keys and values of an encoder's states are made once and never grow.
    size.fixed_bytes = _cache_bytes(fixed) if fixed is not None else 0
    # A cache of fixed length has room for more tokens than have been through.
    size.tokens = int(growing.layers[0].keys.shape[-2])
    size.sequences = int(growing.layers[0].keys.shape[0])


def _cache_bytes(cache: Any) -> int:
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


PROBE = MemoryProbe


# Weights


def read_weights(model: Model) -> Iterator[Reading]:
    """Bytes of parameters and buffers by part; what two parts share belongs to the first."""
    counted: set[int] = set()
    parts: dict[str, list[Any]] = dict(model.parts())
    # A projector may lie inside of the vision part, and everything inside of the network.
    order = ["projector", *(name for name in parts if name != "projector")]
    for name in order:
        yield _weights(f"weights_{name}_bytes", parts[name], counted)
    yield _weights("weights_other_bytes", [model.network], counted)


def _weights(metric: str, modules: Sequence[Any], counted: set[int]) -> Reading:
    tensors = [tensor for module in modules for tensor in stored_tensors(module)]
    fresh = {tensor.data_ptr(): tensor.nbytes for tensor in tensors}
    value = sum(size for place, size in fresh.items() if place not in counted)
    counted.update(fresh)
    return Reading(
        phase="run",
        metric=metric,
        value=value,
        unit="bytes",
        status=DERIVED,
        source="parameters and buffers of the part, shared ones once",
    )
