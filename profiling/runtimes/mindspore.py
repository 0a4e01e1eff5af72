"""MindSpore on the processor: operators one by one (pynative), or graphs traced by shape (jit)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import mindspore
import numpy
from mindspore.graph import jit_trace

from profiling.runtimes.native import mindspore_adapter
from profiling.runtimes.native.adapter import Array
from profiling.runtimes.native.compiled_runtime import CompiledRuntime, Counts, ProgramByShape
from profiling.runtimes.native.native_graph import NativeGraph
from profiling.runtimes.native.native_program import NativeProgram
from profiling.runtimes.runtime import require_cpu


def _list_callers() -> tuple[list[str], list[int]]:
    """The files and lines that MindSpore notes for a graph, outside of itself."""
    files, lines = [], []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if "mindspore" not in Path(frame.f_code.co_filename).parts:
            files.append(frame.f_code.co_filename)
            lines.append(frame.f_lineno)
        frame = frame.f_back
    return files, lines


class TracedProgram(ProgramByShape):
    """A graph that MindSpore traces, and then runs as a graph of its own."""

    def _compile(
        self, room: int | None, given: Sequence[Any]
    ) -> Callable[[Sequence[Any]], Sequence[Array]]:
        def compute(*placed: Array) -> Sequence[Array]:
            return tuple(self._compute(room, self.graph.parameters, *placed))

        traced, put = mindspore.jit(compute, capture_mode="trace"), self.graph.adapter.put

        def run(values: Sequence[Any]) -> Sequence[Array]:
            placed = [put(each) if isinstance(each, numpy.ndarray) else each for each in values]
            made: Sequence[Array] = traced(*placed)
            return made

        return run


class MindSpore(CompiledRuntime):
    """MindSpore in one of its modes; in pynative any length runs as it is."""

    timed = "perf_counter around the first call with each shape"
    counted = "counted whenever MindSpore traces a graph: once for each shape"

    def __init__(self, *, device: str, threads: int, settings: Mapping[str, Any]) -> None:
        super().__init__(device=device, threads=threads, settings=settings, counts=Counts())
        self.compiles = settings["mode"] == "jit"

    @classmethod
    def prepare_process(cls, *, device: str, threads: int) -> None:
        mindspore.set_device("CPU")
        mindspore.set_context(mode=mindspore.PYNATIVE_MODE, runtime_num_threads=threads)
        # Handing each operator to another thread takes longer than most operators.
        mindspore.runtime.launch_blocking()
        mindspore_adapter.begin()
        # Its own function fails on callers without source, such as those of `python -m`.
        jit_trace._get_caller_lines = _list_callers

    @classmethod
    def check(cls, device: str, settings: Mapping[str, Any]) -> None:
        require_cpu("mindspore", device)

    def open(self, path: Path) -> NativeProgram:
        graph = NativeGraph(path, mindspore_adapter.MindSporeAdapter())
        if self.compiles:
            return TracedProgram(graph, buckets=self.buckets, counts=self.counts)
        return NativeProgram(graph, buckets=None)

    def computes_in(self, stored: str) -> str:
        # Weights in half precision are converted when a graph is opened.
        return "float32"


RUNTIME = MindSpore
