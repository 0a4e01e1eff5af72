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
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        self.before_bytes = self.peak_bytes = read_resident_bytes(self.proc)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self._stop.set()
        self._thread.join()
        # What ended the work already is the better reason.
        if ended == (None, None, None):
            self._finish()

    def _finish(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._look()

    def _sample(self) -> None:
        try:
            while not self._stop.wait(self.interval_s):
                self._look()
        except Exception as error:  # raised where the peak is read; the thread would end unseen
            self._failure = error

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
        return _ask_psutil(int(proc.name) if proc.name.isdigit() else None)
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _ask_psutil(pid: int | None) -> int:
    """Resident memory on systems other than Linux; slower. None: of this process.

    A process that has ended holds nothing.
    """
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


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
