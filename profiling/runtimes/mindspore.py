"""MindSpore: the operators of a graph run one by one, on the processor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mindspore

from profiling.runtimes.native import mindspore_adapter
from profiling.runtimes.native.native_graph import NativeGraph
from profiling.runtimes.native.native_program import NativeProgram
from profiling.runtimes.runtime import Runtime, require_cpu


class MindSpore(Runtime):
    """MindSpore in its dynamic mode; any length runs as it is."""

    @classmethod
    def prepare_process(cls, *, device: str, threads: int) -> None:
        mindspore.set_device("CPU")
        mindspore.set_context(mode=mindspore.PYNATIVE_MODE, runtime_num_threads=threads)
        mindspore_adapter.begin()

    @classmethod
    def check(cls, device: str, settings: Mapping[str, Any]) -> None:
        require_cpu("mindspore", device)

    def open(self, path: Path) -> NativeProgram:
        return NativeProgram(NativeGraph(path, mindspore_adapter.MindSporeAdapter()), buckets=None)

    def computes_in(self, stored: str) -> str:
        # Weights in half precision are converted when a graph is opened.
        return "float32"


RUNTIME = MindSpore
