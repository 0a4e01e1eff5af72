"""JAX: each graph is one function, compiled by XLA for every shape that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from profiling.machine.cache import cache_root
from profiling.runtimes.native import jax_process
from profiling.runtimes.native.adapter import Array
from profiling.runtimes.native.compiled_runtime import CompiledRuntime
from profiling.runtimes.native.jax_adapter import JaxAdapter
from profiling.runtimes.native.jax_process import Compilations
from profiling.runtimes.native.native_graph import NativeGraph
from profiling.runtimes.native.native_program import NativeProgram
from profiling.runtimes.runtime import Buckets, RuntimeAbsent


class CompiledProgram(NativeProgram):
    """A graph as one compiled function; weights are an argument, or the code would hold them."""

    def __init__(self, graph: NativeGraph, *, buckets: Buckets, compilations: Compilations) -> None:
        super().__init__(graph, buckets=buckets)
        self._function = jax.jit(compilations.counted(self._compute), static_argnums=0)

    def _call(self, room: int | None, given: Sequence[Any]) -> Sequence[Array]:
        made: Sequence[Array] = self._function(room, self.graph.parameters, *given)
        return made


class Jax(CompiledRuntime):
    """JAX on the device of the point; what it compiles is kept in files for later processes."""

    timed = (
        "jax.monitoring: tracing, lowering and compiling before measuring; what an earlier process"
        " compiled is read from files"
    )
    counted = "counted whenever JAX traces a graph: once for each shape"

    def __init__(self, *, device: str, threads: int, settings: Mapping[str, Any]) -> None:
        jax_process.keep_compiled(cache_root() / "jax")
        self.compilations = Compilations()
        super().__init__(
            device=device, threads=threads, settings=settings, counts=self.compilations
        )

    @classmethod
    def prepare_process(cls, *, device: str, threads: int) -> None:
        jax_process.prepare_process(device, threads)

    @classmethod
    def check(cls, device: str, settings: Mapping[str, Any]) -> None:
        if not jax_process.reaches(device):
            raise RuntimeAbsent(f"jax {jax.__version__} does not compute on {device} here")

    def open(self, path: Path) -> CompiledProgram:
        graph = NativeGraph(path, JaxAdapter())
        return CompiledProgram(graph, buckets=self.buckets, compilations=self.compilations)

    def computes_in(self, stored: str) -> str:
        # Weights in half precision are converted when a graph is opened.
        return "float32"


RUNTIME = Jax
