"""Compiles the pass that generate calls for each new token, over a cache of fixed length."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from typing import ClassVar

from profiling.engines.transformers.compilation import Compilation
from profiling.engines.transformers.fixed_cache import FixedCache
from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.optimization import Optimization, require_package
from profiling.errors import Unsupported
from profiling.models.quantizers import BITSANDBYTES
from profiling.points.point import Point
from profiling.runtimes.offered import TEXT


class Compile(Optimization):
    """The library's own way: the first pass stays as it is, since its length always changes."""

    changes = frozenset({TEXT})
    modes: ClassVar[dict[str, str]] = {"cuda": "reduce-overhead"}

    def __init__(self, *, kind: str, order: int, backend: str, mode: str | None) -> None:
        super().__init__(kind=kind, order=order)
        self.backend, self.mode = backend, mode

    def check_point(self, point: Point) -> None:
        for name, settings in point.optimization_settings.items():
            if settings.get("engine") == BITSANDBYTES:
                reason = f"the library does not compile networks quantized by {name}"
                raise Unsupported(f"{reason} with bitsandbytes: optimization.{name}.engine=torchao")

    def check(self, point: Point) -> None:
        if self.backend == "inductor":
            _require_compiler(point.device)

    def apply(self, loaded: LoadedModel) -> None:
        mode = self.mode or self.modes.get(loaded.model.device.type, "default")
        loaded.fixed_cache = FixedCache(compilation=Compilation(backend=self.backend, mode=mode))


def _require_compiler(device: str) -> None:
    if device.startswith("cuda"):
        require_package("triton", "requirements.txt")
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise Unsupported(f"there is no C++ compiler: {compiler} is not on PATH")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise Unsupported("Python's C headers are not installed (Python.h)")


OPTIMIZATION = Compile
