"""What a process settles for JAX: threads and device, and what it compiles."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.monitoring

from profiling.runtimes.native.compiled_runtime import Counts

_COMPILING = "/jax/core/compile/"
_FOUND, _MISSED = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"


def prepare_process(device: str, threads: int) -> None:
    """Have JAX compute where the point says and on so many threads, before it computes anything."""
    # Read once, when JAX first computes.
    os.environ["PJRT_NPROC"] = str(threads)
    # Or memory that no array needs would count as held.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    kind, _, number = device.partition(":")
    jax.config.update("jax_default_device", jax.devices(kind)[int(number or 0)])


def reaches(device: str) -> bool:
    """Whether JAX computes on a device."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return True
    try:
        return len(jax.devices(kind)) > int(number or 0)
    except RuntimeError:
        return False


def keep_compiled(folder: Path) -> None:
    """Keep whatever is compiled in files, where other processes find it."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # By default only what takes long is kept.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


class Compilations(Counts):
    """What JAX compiled in this process."""

    found: int

    def __init__(self) -> None:
        super().__init__()
        self.found = 0
        # Whether one of the functions was traced, and what comes of it is not known yet.
        self._waits = False
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        jax.monitoring.register_event_listener(self._look)

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith(_COMPILING):
            self.seconds += duration_secs

    def _look(self, event: str, **_: Any) -> None:
        self.found += self._waits and event == _FOUND
        self._waits = self._waits and event not in (_FOUND, _MISSED)

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, counted whenever it is traced: once for each shape it is compiled for."""

        def traced(*arguments: Any) -> Any:
            self.count += 1
            self._waits = True
            return function(*arguments)

        return traced
