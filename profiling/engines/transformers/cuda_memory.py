"""A CUDA device: its UUID, and its memory as torch's allocator counts it."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from profiling.machine.machine import find_uuid


class AllocatorCounts(Protocol):
    """The part of `torch.cuda` that keeps count of a GPU's memory."""

    def synchronize(self, device: Any) -> None: ...
    def empty_cache(self) -> None: ...
    def reset_peak_memory_stats(self, device: Any) -> None: ...
    def memory_allocated(self, device: Any) -> int: ...
    def max_memory_allocated(self, device: Any) -> int: ...
    def max_memory_reserved(self, device: Any) -> int: ...


class CudaMemory:
    """Peaks of one device since the last reset."""

    source = "peak of bytes allocated by tensors (torch.cuda.max_memory_allocated), reset before"
    reserved_source = "peak of bytes held by the allocator (torch.cuda.max_memory_reserved)"

    def __init__(self, *, counts: AllocatorCounts, device: Any) -> None:
        self._counts, self._device = counts, device

    def reset(self) -> None:
        self._counts.synchronize(self._device)
        # Cached blocks of earlier passes would count as reserved by this one.
        self._counts.empty_cache()
        self._counts.reset_peak_memory_stats(self._device)

    def allocated_bytes(self) -> int:
        return self._counts.memory_allocated(self._device)

    def peak_bytes(self) -> int:
        self._counts.synchronize(self._device)
        return self._counts.max_memory_allocated(self._device)

    def peak_reserved_bytes(self) -> int:
        self._counts.synchronize(self._device)
        return self._counts.max_memory_reserved(self._device)


def cuda_memory(device: torch.device) -> CudaMemory | None:
    return CudaMemory(counts=torch.cuda, device=device) if device.type == "cuda" else None


def cuda_uuid(device: torch.device) -> str | None:
    """NVML's UUID of the board or instance behind a device, whatever CUDA's order is."""
    if device.type != "cuda":
        return None
    return find_uuid(str(torch.cuda.get_device_properties(device).uuid))
