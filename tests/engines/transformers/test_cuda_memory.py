"""A GPU's memory: counts that are reset before and read once the GPU has done its work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from profiling.engines.transformers.cuda_memory import CudaMemory, cuda_memory, cuda_uuid

BIG = 96 * 2**20


@dataclass
class FakeCuda:
    """Counts bytes as torch.cuda does: peaks stay until they are reset."""

    allocated: int = 1000
    peak: int = 9999
    reserved: int = 20000
    calls: list[str] = field(default_factory=list)

    def synchronize(self, device: Any) -> None:
        self.calls.append("synchronize")

    def empty_cache(self) -> None:
        self.reserved = self.allocated

    def reset_peak_memory_stats(self, device: Any) -> None:
        self.calls.append("reset")
        self.peak = self.allocated

    def memory_allocated(self, device: Any) -> int:
        return self.allocated

    def max_memory_allocated(self, device: Any) -> int:
        self.calls.append("read")
        return self.peak

    def max_memory_reserved(self, device: Any) -> int:
        self.calls.append("read")
        return self.reserved

    def take(self, size: int) -> None:
        self.peak = max(self.peak, self.allocated + size)
        self.reserved = max(self.reserved, self.peak + 24)


def test_peaks_are_reset_before_and_read_after_a_synchronization() -> None:
    cuda = FakeCuda()
    memory = CudaMemory(counts=cuda, device="cuda:0")
    memory.reset()
    cuda.take(300)
    assert (memory.allocated_bytes(), memory.peak_bytes()) == (1000, 1300)
    # Blocks that the allocator had kept from earlier are no part of it.
    assert memory.peak_reserved_bytes() == 1324
    assert cuda.calls == [*("synchronize", "reset"), *("synchronize", "read") * 2]


def test_a_cpu_has_neither() -> None:
    cpu = torch.device("cpu")
    assert (cuda_memory(cpu), cuda_uuid(cpu)) == (None, None)


@pytest.mark.gpu
def test_a_real_gpu_counts_a_known_tensor() -> None:
    device = torch.device("cuda:0")
    memory = CudaMemory(counts=torch.cuda, device=device)
    torch.ones(3 * BIG, dtype=torch.uint8, device=device)
    memory.reset()
    before = memory.allocated_bytes()
    torch.ones(BIG, dtype=torch.uint8, device=device)
    assert memory.peak_bytes() - before == BIG
