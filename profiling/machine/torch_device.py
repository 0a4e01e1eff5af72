"""What differs between torch's devices: waiting, names, what is unusable, and memory errors."""

from __future__ import annotations

import torch

from profiling.machine.machine import describe_machine

# What allocators say where they raise nothing more telling than a RuntimeError.
_NO_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "cuda error: out of memory",
    "cublas_status_alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory of a device did not suffice."""
    text = str(error).lower()
    refused = isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)
    return refused or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def synchronize(device: torch.device) -> None:
    """Wait until everything that was asked of the device has happened."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def name_device(device: torch.device) -> str:
    """What the device is called; an Apple GPU has the name of the chip that it is a part of."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    chip = describe_machine().cpu_model
    return f"{chip} GPU" if device.type == "mps" else chip


def why_unusable(name: str) -> str | None:
    """Why torch cannot use a device that this machine lists; None where it can."""
    device = torch.device(name)
    if device.type == "cuda":
        return _why_no_cuda(device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        return "torch has no Metal device here: it needs macOS 12.3 and a GPU that Metal shows"
    return None


def _why_no_cuda(index: int) -> str | None:
    if not torch.cuda.is_available():
        return "torch cannot start CUDA, though a GPU is listed: driver and torch do not match"
    count = torch.cuda.device_count()
    if index < count:
        return None
    return f"torch shows {count} GPUs, so there is no cuda:{index}"
