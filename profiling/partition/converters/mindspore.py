"""MindSpore's MindIR: a traced graph with its weights, for each shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mindspore
import numpy

from profiling.partition.converters.converter import Converter, Sizes, Source
from profiling.partition.saved_part import size_in
from profiling.runtimes.mindspore import RUNTIME
from profiling.runtimes.native.adapter import Array
from profiling.runtimes.native.mindspore_adapter import MindSporeAdapter
from profiling.runtimes.native.native_graph import NativeGraph


class Traced(mindspore.nn.Cell):  # type: ignore[misc]
    """A cell whose source only calls a function that is traced: no other is exported."""

    def __init__(self, traced: Callable[..., tuple[Array, ...]]) -> None:
        super().__init__()
        self.traced = traced

    def construct(self, *read):  # type: ignore[no-untyped-def]  # MindSpore compiles this source
        return self.traced(*read)


def _traced(graph: NativeGraph, given: Sequence[Any], read: Sequence[int]) -> Any:
    """The graph as a function of some inputs; the others are constants of it."""

    def compute(*placed: Array) -> tuple[Array, ...]:
        values = list(given)
        for place, value in zip(read, placed, strict=True):
            values[place] = value
        return tuple(graph.run(graph.parameters, *values))

    return mindspore.jit(compute, capture_mode="trace")


class MindSporeFormat(Converter):
    """A MindIR file for each shape; its exporter takes no shape that varies by tracing."""

    fixed = True
    needs = ("mindspore",)

    def save(self, part: Source, folder: Path, sizes: Sequence[Sizes]) -> dict[str, Any]:
        RUNTIME.prepare_process(device="cpu", threads=1)
        graph = NativeGraph(part.graph, MindSporeAdapter())
        programs = []
        for number, one in enumerate(sizes, start=1):
            stem = folder / f"{part.name}.{number}"
            given = [_zeros(value, one) for value in part.told["inputs"]]
            # A file has no input of no length, such as an empty cache.
            read = [place for place, value in enumerate(given) if value.size]
            placed = [mindspore.Tensor(given[place]) for place in read]
            cell = Traced(_traced(graph, given, read))
            mindspore.export(cell, *placed, file_name=str(stem), file_format="MINDIR")
            programs.append({"file": f"{stem.name}.mindir", "sizes": dict(one), "read": read})
        return {"programs": programs}


def _zeros(value: Mapping[str, Any], sizes: Sizes) -> Any:
    return numpy.zeros([size_in(axis, sizes) for axis in value["shape"]], value["dtype"])


CONVERTER = MindSporeFormat()
