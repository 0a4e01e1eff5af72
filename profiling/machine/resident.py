"""Resident memory of a process from the kernel: current and peak."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from pathlib import Path
from typing import Self

SELF = Path("/proc/self")


class ResidentSampler:
    """Samples resident memory while it is active."""

    def __init__(self, *, interval_s: float, proc: Path = SELF) -> None:
        self.interval_s, self.proc = interval_s, proc
        self.before_bytes = self.peak_bytes = 0

    def __enter__(self) -> Self:
        self.before_bytes = self.peak_bytes = read_resident_bytes(self.proc)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _sample(self) -> None:
        while not self._stop.wait(self.interval_s):
            self._look()

    def _look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, read_resident_bytes(self.proc))


def reset_high_water_mark(proc: Path) -> bool:
    """Reset the peak to the current value; False if the kernel does not allow it."""
    try:
        # 5 resets only the peak; other values clear page flags.
        (proc / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def read_resident_bytes(proc: Path) -> int:
    try:
        pages = (proc / "statm").read_text(encoding="ascii").split()[1]
    except FileNotFoundError:
        return _ask_psutil()
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _ask_psutil() -> int:
    """Resident memory on systems other than Linux; slower."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def read_high_water_bytes(proc: Path) -> int:
    for line in (proc / "status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{proc / 'status'}: no VmHWM line")


def give_back_freed_memory() -> None:
    """Return freed heap to the kernel; otherwise an earlier run's heap hides a peak."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    # glibc only; elsewhere the delta may be too small by the memory that the allocator keeps.
    if trim is not None:
        trim(0)
