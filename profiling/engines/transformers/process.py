"""Torch in a process that measures: its threads and its seed, and its errors about memory."""

from __future__ import annotations

import torch

# How allocators word a RuntimeError that has no class of its own.
_NO_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "cuda error: out of memory",
    "cublas_status_alloc_failed",
)


def prepare_process(*, threads: int, seed: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch itself says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)
