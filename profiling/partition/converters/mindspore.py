"""MindSpore's MindIR: a traced graph with its weights, for each shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """A graph as a cell; inputs of no length, which a file cannot have, are constants of it."""

    def __init__(self, graph: NativeGraph, given: Sequence[Any]) -> None:
        super().__init__()
        self.graph = graph
        self.read = [place for place, value in enumerate(given) if value.size]
        self.given = list(given)

    @mindspore.jit(capture_mode="trace")  # type: ignore[untyped-decorator]
    def construct(self, *read: Array) -> tuple[Array, ...]:
        given = list(self.given)
        for place, value in zip(self.read, read, strict=True):
            given[place] = value
        return self.graph.run(self.graph.parameters, *given)


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
            cell = Traced(graph, given)
            placed = [mindspore.Tensor(given[place]) for place in cell.read]
            mindspore.export(cell, *placed, file_name=str(stem), file_format="MINDIR")
            file = f"{stem.name}.mindir"
            programs.append({"file": file, "sizes": dict(one), "read": cell.read})
        return {"programs": programs}


def _zeros(value: Mapping[str, Any], sizes: Sizes) -> Any:
    return numpy.zeros([size_in(axis, sizes) for axis in value["shape"]], value["dtype"])


CONVERTER = MindSporeFormat()
