"""PaddlePaddle: the operators of a graph run one by one, on the processor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import paddle

from profiling.runtimes.native.native_graph import NativeGraph
from profiling.runtimes.native.native_program import NativeProgram
from profiling.runtimes.native.paddle_adapter import PaddleAdapter
from profiling.runtimes.runtime import Runtime, require_cpu


class Paddle(Runtime):
    """Paddle in its dynamic mode; any length runs as it is."""

    @classmethod
    def prepare_process(cls, *, device: str, threads: int) -> None:
        paddle.set_device("cpu")
        paddle.base.core.set_num_threads(threads)

    @classmethod
    def check(cls, device: str, settings: Mapping[str, Any]) -> None:
        require_cpu("paddle", device)

    def open(self, path: Path) -> NativeProgram:
        return NativeProgram(NativeGraph(path, PaddleAdapter()), buckets=None)

    def computes_in(self, stored: str) -> str:
        # Weights in half precision are converted when a graph is opened.
        return "float32"


RUNTIME = Paddle
