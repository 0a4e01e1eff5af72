"""PaddlePaddle on the processor: operators one by one (dygraph), or programs by shape (static)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy
import paddle
from paddle import inference, static

from profiling.runtimes.native.adapter import Array
from profiling.runtimes.native.compiled_runtime import CompiledRuntime, Counts, ProgramByShape
from profiling.runtimes.native.native_graph import NativeGraph
from profiling.runtimes.native.native_program import NativeProgram
from profiling.runtimes.native.paddle_adapter import PaddleAdapter
from profiling.runtimes.runtime import Buckets, require_cpu

DYGRAPH = "dygraph"
# With oneDNN's operators it gives memory away that is still read: results are wrong, silently.
WRONG_PASS = "inplace_pass"


class StaticProgram(ProgramByShape):
    """A graph as an inference model of each shape, which holds weights of its own."""

    def __init__(
        self,
        graph: NativeGraph,
        *,
        buckets: Buckets,
        counts: Counts,
        onednn: bool,
        threads: int,
        left_out: Sequence[str],
    ) -> None:
        super().__init__(graph, buckets=buckets, counts=counts)
        self.onednn, self.threads, self.left_out = onednn, threads, left_out

    def _compile(
        self, room: int | None, given: Sequence[Any]
    ) -> Callable[[Sequence[Any]], Sequence[Array]]:
        shown = [value if isinstance(value, numpy.ndarray) else value.numpy() for value in given]
        with TemporaryDirectory(prefix="paddle-") as folder:
            stem = Path(folder) / "graph"
            used = save_program(self.graph, partial(self._compute, room), shown, stem)
            predictor = inference.create_predictor(self._configure(stem))
        handles = {place: predictor.get_input_handle(self.inputs[place]) for place in used}
        outputs = [predictor.get_output_handle(name) for name in predictor.get_output_names()]

        def run(values: Sequence[Any]) -> Sequence[Array]:
            for place, handle in handles.items():
                handle.copy_from_cpu(numpy.ascontiguousarray(values[place]))
            predictor.run()
            return [output.copy_to_cpu() for output in outputs]

        return run

    def _configure(self, stem: Path) -> Any:
        config = inference.Config(
            str(stem.with_suffix(".json")), str(stem.with_suffix(".pdiparams"))
        )
        config.disable_gpu()
        config.disable_glog_info()
        config.set_cpu_math_library_num_threads(self.threads)
        if self.onednn:
            config.enable_mkldnn()
        else:
            config.disable_mkldnn()
        for name in self.left_out:
            config.delete_pass(name)
        return config


def save_program(
    graph: NativeGraph,
    compute: Callable[..., Sequence[Array]],
    given: Sequence[Any],
    stem: Path,
) -> list[int]:
    """Write a graph for inputs of these shapes as an inference model; `compute` runs its steps.

    The places of the inputs that it reads, which an empty cache is none of.
    """
    fetch = graph.adapter.fetch
    weights = {number: fetch(value) for number, value in graph.parameters.items()}
    paddle.enable_static()
    try:
        main, start = static.Program(), static.Program()
        around = (static.scope_guard(static.Scope()), static.program_guard(main, start))
        with around[0], around[1], paddle.utils.unique_name.guard():
            inputs = [
                static.data(name, list(value.shape), value.dtype.name)
                for name, value in zip(graph.inputs, given, strict=True)
            ]
            placed = {number: _parameter(value) for number, value in weights.items()}
            with graph.fresh_constants():
                made = list(compute(placed, *inputs))
            executor = static.Executor(paddle.CPUPlace())
            executor.run(start)
            used = [place for place, value in enumerate(inputs) if not value.use_empty()]
            read = [inputs[place] for place in used]
            static.save_inference_model(str(stem), read, made, executor, program=main)
    finally:
        paddle.disable_static()
    return used


def _parameter(value: Any) -> Array:
    return static.create_parameter(
        list(value.shape),
        value.dtype.name,
        default_initializer=paddle.nn.initializer.Assign(value),
    )


class Paddle(CompiledRuntime):
    """Paddle in one of its modes; in dygraph any length runs as it is."""

    timed = "perf_counter around the first call with each shape"
    counted = "counted whenever a graph is written as a static program: once for each shape"

    def __init__(self, *, device: str, threads: int, settings: Mapping[str, Any]) -> None:
        super().__init__(device=device, threads=threads, settings=settings, counts=Counts())
        self.compiles = settings["mode"] != DYGRAPH

    @classmethod
    def prepare_process(cls, *, device: str, threads: int) -> None:
        paddle.set_device("cpu")
        paddle.base.core.set_num_threads(threads)

    @classmethod
    def check(cls, device: str, settings: Mapping[str, Any]) -> None:
        require_cpu("paddle", device)

    def open(self, path: Path) -> NativeProgram:
        graph = NativeGraph(path, PaddleAdapter())
        if not self.compiles:
            return NativeProgram(graph, buckets=None)
        return StaticProgram(
            graph,
            buckets=self.buckets,
            counts=self.counts,
            onednn=self.settings["onednn"],
            threads=self.threads,
            left_out=[WRONG_PASS],
        )

    def computes_in(self, stored: str) -> str:
        # Weights in half precision are converted when a graph is opened.
        return "float32"


RUNTIME = Paddle
