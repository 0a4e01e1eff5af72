"""JAX: each graph is one function, compiled by XLA for every shape that it is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from profiling.machine.cache import cache_root
from profiling.records import MEASURED, Reading, reading
from profiling.runtimes.native import jax_process
from profiling.runtimes.native.adapter import Array
from profiling.runtimes.native.jax_adapter import JaxAdapter
from profiling.runtimes.native.jax_process import Compilations
from profiling.runtimes.native.native_graph import NativeGraph
from profiling.runtimes.native.native_program import NativeProgram
from profiling.runtimes.runtime import Buckets, Runtime, RuntimeAbsent


class CompiledProgram(NativeProgram):
    """A graph as one compiled function; weights are an argument, or the code would hold them."""

    def __init__(self, graph: NativeGraph, *, buckets: Buckets, compilations: Compilations) -> None:
        super().__init__(graph, buckets=buckets)
        self._function = jax.jit(compilations.counted(self._compute), static_argnums=0)

    def _call(self, room: int | None, given: Sequence[Any]) -> Sequence[Array]:
        made: Sequence[Array] = self._function(room, self.graph.parameters, *given)
        return made


class Jax(Runtime):
    """JAX on the device of the point; what it compiles is kept in files for later processes."""

    compiles = True

    def __init__(self, *, device: str, threads: int, settings: Mapping[str, Any]) -> None:
        super().__init__(device=device, threads=threads, settings=settings)
        jax_process.keep_compiled(cache_root() / "jax")
        self.compilations = Compilations()
        self._before_measuring = (0, 0, 0.0)

    @classmethod
    def prepare_process(cls, *, device: str, threads: int) -> None:
        jax_process.prepare_process(device, threads)

    @classmethod
    def check(cls, device: str, settings: Mapping[str, Any]) -> None:
        if not jax_process.reaches(device):
            raise RuntimeAbsent(f"jax {jax.__version__} does not compute on {device} here")

    def open(self, path: Path) -> CompiledProgram:
        buckets = Buckets(
            prompts=self.settings["prompt_multiple"], caches=self.settings["cache_multiple"]
        )
        graph = NativeGraph(path, JaxAdapter())
        return CompiledProgram(graph, buckets=buckets, compilations=self.compilations)

    def computes_in(self, stored: str) -> str:
        # Weights in half precision are converted when a graph is opened.
        return "float32"

    def begin_measuring(self) -> None:
        made = self.compilations
        self._before_measuring = (made.count, made.found, made.seconds)

    def readings(self) -> Iterator[Reading]:
        count, found, seconds = self._before_measuring
        yield reading(
            metric="compile_s",
            value=seconds,
            status=MEASURED,
            source="jax.monitoring: tracing, lowering and compiling before measuring; what an"
            " earlier process compiled is read from files",
        )
        source = "counted whenever JAX traces a graph: once for each shape"
        yield reading(metric="num_compilations", value=count, status=MEASURED, source=source)
        yield reading(
            metric="num_kept_compilations",
            value=found,
            status=MEASURED,
            source="jax.monitoring: hits of the compilation cache before measuring",
        )
        yield reading(
            metric="num_recompilations",
            value=self.compilations.count - count,
            status=MEASURED,
            source=f"{source}, after measuring had begun",
        )


RUNTIME = Jax
