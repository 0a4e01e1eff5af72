"""A graph that the operator table runs, as a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from profiling.runtimes.native.adapter import Array
from profiling.runtimes.native.native_graph import NativeGraph
from profiling.runtimes.runtime import Arrays, Buckets, Program, writable


class NativeProgram(Program):
    """A graph whose operators a framework runs one by one."""

    def __init__(self, graph: NativeGraph, *, buckets: Buckets | None) -> None:
        self.graph, self.buckets = graph, buckets
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self.dtypes, self.ranks = graph.dtypes, graph.ranks

    def run(self, feeds: Arrays) -> list[Any]:
        return [writable(self._fetch(value)) for value in self.run_held(feeds, room=None)]

    def _fetch(self, value: Any) -> Any:
        return value if isinstance(value, numpy.ndarray) else self.graph.adapter.fetch(value)

    def run_held(self, feeds: Mapping[str, Any], *, room: int | None) -> list[Any]:
        return list(self._call(room, [feeds[name] for name in self.inputs]))

    def _call(self, room: int | None, given: Sequence[Any]) -> Sequence[Array]:
        """The outputs for inputs of the host or of the framework."""
        put = self.graph.adapter.put
        placed = [put(value) if isinstance(value, numpy.ndarray) else value for value in given]
        return self._compute(room, self.graph.parameters, *placed)

    def _compute(
        self, room: int | None, parameters: Mapping[int, Array], *given: Array
    ) -> Sequence[Array]:
        first, *others = self.graph.run(parameters, *given)
        return first, *(others if room is None else (self._fit(each, room) for each in others))

    def _fit(self, x: Array, room: int) -> Array:
        """The last places of the third axis, with zeros before them where there are too few."""
        arrays = self.graph.adapter
        length = arrays.shape_of(x)[2]
        if length < room:
            return arrays.pad(x, [(0, 0), (0, 0), (room - length, 0), (0, 0)], 0)
        return arrays.slice(x, (slice(None), slice(None), slice(length - room, length)))
