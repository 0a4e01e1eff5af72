"""What runtimes share that compile a graph for each shape that it is given."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from profiling.records import MEASURED, Reading, reading
from profiling.runtimes.native.adapter import Array
from profiling.runtimes.native.native_graph import NativeGraph
from profiling.runtimes.native.native_program import NativeProgram
from profiling.runtimes.runtime import Buckets, Runtime


class Counts:
    """How often graphs were compiled in this process, and how long all of it took."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0
        # Those that files of an earlier process had; None where no files are kept.
        self.found: int | None = None


class ProgramByShape(NativeProgram):
    """A graph that is compiled when it is given a shape for the first time."""

    def __init__(self, graph: NativeGraph, *, buckets: Buckets, counts: Counts) -> None:
        super().__init__(graph, buckets=buckets)
        self._counts = counts
        self._compiled: dict[Any, Callable[[Sequence[Any]], Sequence[Array]]] = {}

    @abstractmethod
    def _compile(
        self, room: int | None, given: Sequence[Any]
    ) -> Callable[[Sequence[Any]], Sequence[Array]]:
        """What computes the outputs for inputs of these shapes."""

    def _call(self, room: int | None, given: Sequence[Any]) -> Sequence[Array]:
        key = (room, tuple(tuple(value.shape) for value in given))
        if key not in self._compiled:
            started_s = time.perf_counter()
            self._compiled[key] = self._compile(room, given)
            made = self._compiled[key](given)
            self._counts.seconds += time.perf_counter() - started_s
            self._counts.count += 1
            return made
        return self._compiled[key](given)


class CompiledRuntime(Runtime):
    """Reports what was compiled before measuring, and whether anything was after."""

    compiles = True
    # How the time and the number of compilations are known.
    timed: str
    counted: str

    def __init__(
        self, *, device: str, threads: int, settings: Mapping[str, Any], counts: Counts
    ) -> None:
        super().__init__(device=device, threads=threads, settings=settings)
        self.counts = counts
        self._before: tuple[int, float, int | None] = (0, 0.0, None)

    @property
    def buckets(self) -> Buckets:
        return Buckets(
            prompts=self.settings["prompt_multiple"], caches=self.settings["cache_multiple"]
        )

    def begin_measuring(self) -> None:
        self._before = (self.counts.count, self.counts.seconds, self.counts.found)

    def readings(self) -> Iterator[Reading]:
        count, seconds, found = self._before
        yield reading(metric="compile_s", value=seconds, status=MEASURED, source=self.timed)
        yield reading(metric="num_compilations", value=count, status=MEASURED, source=self.counted)
        yield reading(
            metric="num_recompilations",
            value=self.counts.count - count,
            status=MEASURED,
            source=f"{self.counted}, after measuring had begun",
        )
        if found is not None:
            yield reading(
                metric="num_kept_compilations",
                value=found,
                status=MEASURED,
                source="hits of the compiler's own cache before measuring",
            )
