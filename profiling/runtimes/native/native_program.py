"""A graph that the operator table runs, as a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from profiling.runtimes.native.adapter import Array
from profiling.runtimes.native.native_graph import NativeGraph
from profiling.runtimes.runtime import Arrays, Program, writable


class NativeProgram(Program):
    """A graph whose operators a framework runs one by one."""

    def __init__(self, graph: NativeGraph) -> None:
        self.graph = graph
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self.dtypes, self.ranks = graph.dtypes, graph.ranks

    def run(self, feeds: Arrays) -> list[Any]:
        fetch = self.graph.adapter.fetch
        return [writable(fetch(value)) for value in self.run_held(feeds, room=None)]

    def run_held(self, feeds: Mapping[str, Any], *, room: int | None) -> list[Any]:
        return list(self._call([feeds[name] for name in self.inputs]))

    def _call(self, given: Sequence[Any]) -> Sequence[Array]:
        """The outputs for inputs of the host or of the framework."""
        put = self.graph.adapter.put
        placed = [put(value) if isinstance(value, numpy.ndarray) else value for value in given]
        return self.graph.run(self.graph.parameters, *placed)
