"""The highest resident memory of a process while something ran."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from profiling.machine.resident import (
    SELF,
    ResidentSampler,
    give_back_freed_memory,
    read_high_water_bytes,
    reset_high_water_mark,
)

KERNEL = "high-water mark of resident memory kept by the kernel (VmHWM), reset before the passes"


class PeakWatch:
    """The highest resident memory of a process between entering and leaving, in bytes.

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

    def __exit__(self, *ended: object) -> None:
        self._sampler.__exit__(*ended)
        if self._is_reset:
            self.peak_bytes, self.source = read_high_water_bytes(self.proc), KERNEL
        else:
            self.peak_bytes = self.sampled_peak_bytes
            self.source = (
                f"highest of samples of resident memory every {self.sample_interval_s:g} s (the "
                "kernel's high-water mark cannot be reset here): shorter peaks are missed"
            )
