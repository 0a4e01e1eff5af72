"""An Apple GPU's memory, whose allocator keeps no peaks: a thread looks at it again and again."""

from __future__ import annotations

import threading
from typing import Protocol

import torch

_SAMPLE_S = 0.002


class MetalCounts(Protocol):
    """The part of `torch.mps` that knows what is allocated now; it keeps no peaks."""

    def synchronize(self) -> None: ...
    def empty_cache(self) -> None: ...
    def current_allocated_memory(self) -> int: ...
    def driver_allocated_memory(self) -> int: ...


class MetalMemory:
    """Peaks since the last reset, of samples that a thread takes until they are read."""

    def __init__(self, *, counts: MetalCounts, sample_s: float) -> None:
        self._counts, self._sample_s = counts, sample_s
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._allocated = self._held = 0
        often = f"highest of samples every {sample_s:g} s, shorter peaks are missed"
        self.source = f"bytes of tensors (torch.mps.current_allocated_memory), {often}"
        self.reserved_source = (
            f"bytes that Metal holds for this process (torch.mps.driver_allocated_memory), {often}"
        )

    def reset(self) -> None:
        self._end()
        self._counts.synchronize()
        self._counts.empty_cache()
        self._allocated = self._held = 0
        self._look()
        self._stop.clear()
        self._thread = threading.Thread(target=self._sample, name="Metal memory", daemon=True)
        self._thread.start()

    def allocated_bytes(self) -> int:
        return self._counts.current_allocated_memory()

    def peak_bytes(self) -> int:
        self._finish()
        return self._allocated

    def peak_reserved_bytes(self) -> int:
        self._finish()
        return self._held

    def _finish(self) -> None:
        if self._thread is not None:
            self._counts.synchronize()
            self._look()
        self._end()
        if self._failure is not None:
            raise self._failure

    def _end(self) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _sample(self) -> None:
        try:
            while not self._stop.wait(self._sample_s):
                self._look()
        except Exception as error:  # raised where the peaks are read
            self._failure = error

    def _look(self) -> None:
        self._allocated = max(self._allocated, self._counts.current_allocated_memory())
        self._held = max(self._held, self._counts.driver_allocated_memory())


def metal_memory(device: torch.device) -> MetalMemory | None:
    return MetalMemory(counts=torch.mps, sample_s=_SAMPLE_S) if device.type == "mps" else None
