"""Errors that say that memory ran out: those of torch, and those of the runtimes of graphs."""

from __future__ import annotations

from profiling.machine import torch_device
from profiling.runtimes.offered import NO_MEMORY


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch or of a runtime says that memory did not suffice."""
    text = str(error).lower()
    return any(words in text for words in NO_MEMORY) or torch_device.is_out_of_memory(error)
