"""Time by part and added memory of one mode."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from profiling.machine.resident import (
    SELF,
    give_back_freed_memory,
    read_high_water_bytes,
    read_resident_bytes,
    reset_high_water_mark,
)


@dataclass(kw_only=True)
class Memory:
    """The peak memory of this process while something runs; None if it cannot be measured."""

    device: torch.device
    cpu_peak_bytes: int | None = None
    cpu_delta_bytes: int | None = None
    gpu_peak_bytes: int | None = None
    gpu_delta_bytes: int | None = None

    def __enter__(self) -> Self:
        give_back_freed_memory()
        self._before_bytes = read_resident_bytes(SELF)
        self._is_reset = reset_high_water_mark(SELF)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._gpu_before_bytes = torch.cuda.memory_allocated(self.device)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_reset:
            self.cpu_peak_bytes = read_high_water_bytes(SELF)
            self.cpu_delta_bytes = self.cpu_peak_bytes - self._before_bytes
        if self.device.type == "cuda":
            self.gpu_peak_bytes = torch.cuda.max_memory_allocated(self.device)
            self.gpu_delta_bytes = self.gpu_peak_bytes - self._gpu_before_bytes


@dataclass(kw_only=True)
class Stopwatch:
    """Seconds by name; synchronizes a GPU at both ends."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        begun = self._now()
        yield
        self._add(name, self._now() - begun)

    @contextmanager
    def inside(self, name: str, modules: list[nn.Module]) -> Iterator[None]:
        """Time spent in modules, by hooks."""
        entered: list[float] = []
        hooks: list[Any] = []
        for module in modules:
            hooks.append(module.register_forward_pre_hook(lambda *_: entered.append(self._now())))
            hooks.append(
                module.register_forward_hook(
                    lambda *_: self._add(name, self._now() - entered.pop())
                )
            )
        yield
        for hook in hooks:
            hook.remove()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _add(self, name: str, passed_s: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0) + passed_s
