"""Keys and values of a length that is fixed before a generation, whose steps may be compiled.

Whatever is made for the shapes of a workload (the longest cache, compiled code) is made before
anything is measured, and what is made anew while measuring is counted as such.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from profiling.engines.engine import Passes
from profiling.engines.transformers.compilation import Compilation, NeverCompiled
from profiling.machine.peak_watch import PeakWatch
from profiling.records import MEASURED, Reading, reading, unavailable

_SAMPLE_S = 0.01
_ONE_TOKEN = "the only new token comes out of the first pass, which is not compiled"


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What was made for the shapes of a workload before measuring."""

    peak_bytes: int
    compile_s: float
    num_graphs: int
    calls_per_token: float | None  # of compiled graphs; None where no step is compiled


class FixedCache:
    """The cache of one network, and the compilation of its steps where there is one."""

    def __init__(self, *, compilation: Compilation | None) -> None:
        self.compilation = compilation
        self.settled: Settled | None = None
        self._settled_for: Callable[[], Passes | None] = lambda: None
        # What the library's generate is told; made once, since each other configuration compiles
        # anew.
        self.options = _options(compilation)

    def settle(self, workload: Passes, network: Any) -> None:
        """Make what the workload needs; again only where something was compiled since."""
        if self._settled_for() is not workload or self.num_recompilations:
            self.settled = self._settle(workload, network)
            self._settled_for = weakref.ref(workload)

    def _settle(self, workload: Passes, network: Any) -> Settled:
        """A pass for each length of prompt, the longest first: none later needs a longer cache."""
        self.start_afresh(network)
        with PeakWatch(sample_interval_s=_SAMPLE_S) as peak:
            order = _longest_first(workload)
            for index in order:
                workload.run(index)
            calls = self._count_calls(workload, order[0])
        compilation = self.compilation
        return Settled(
            peak_bytes=peak.peak_bytes - peak.before_bytes,
            compile_s=compilation.compile_s if compilation else 0.0,
            num_graphs=compilation.num_graphs if compilation else 0,
            calls_per_token=calls,
        )

    def start_afresh(self, network: Any) -> None:
        """Forget the longest cache so far and what was compiled for it."""
        for module in network.modules():
            for name in ("_previous_max_cache_length", "_cache"):
                vars(module).pop(name, None)
        if self.compilation is not None:
            self.compilation.reset()

    def _count_calls(self, workload: Passes, index: int) -> float | None:
        """Calls of compiled graphs for each token after the first, by one more pass."""
        steps = workload.max_new_tokens - 1
        if self.compilation is None or not steps:
            return None
        before = self.compilation.num_calls
        workload.run(index)
        calls = self.compilation.num_calls - before
        if calls < steps:
            raise NeverCompiled(f"of {steps} steps of decoding, {calls} ran compiled")
        return calls / steps

    @property
    def num_recompilations(self) -> int:
        """How many graphs were compiled after everything had been made."""
        if self.compilation is None or self.settled is None:
            return 0
        return self.compilation.num_graphs - self.settled.num_graphs

    def readings(self) -> Iterator[Reading]:
        """What was compiled; nothing where no step is."""
        if self.compilation is None or self.settled is None:
            return
        row = partial(reading, status=MEASURED)
        yield row(
            metric="compile_s",
            value=self.settled.compile_s,
            source="perf_counter around compilations before measuring; the compiler's own cache"
            " of earlier results in place",
        )
        source = "counted where the library hands a traced graph over to be compiled"
        yield row(metric="num_compilations", value=self.settled.num_graphs, source=source)
        yield row(
            metric="num_recompilations",
            value=self.num_recompilations,
            source=f"{source}, after measuring had begun",
        )
        yield _calls_per_token(self.settled)


def _options(compilation: Compilation | None) -> dict[str, Any]:
    if compilation is None:
        # On a GPU the library would compile as soon as the cache is of that kind.
        return {"cache_implementation": "static", "disable_compile": True}
    return {"cache_implementation": "static", "compile_config": compilation.config()}


def _longest_first(workload: Passes) -> list[int]:
    """One batch of each length of prompt."""
    by_length: dict[int, int] = {}
    for index in range(len(workload.batches)):
        length = workload.encode(index)["input_ids"].shape[1]
        by_length.setdefault(int(length), index)
    return [by_length[length] for length in sorted(by_length, reverse=True)]


def _calls_per_token(settled: Settled) -> Reading:
    if settled.calls_per_token is None:
        return unavailable("compiled_calls_per_token", _ONE_TOKEN)
    return reading(
        metric="compiled_calls_per_token",
        value=settled.calls_per_token,
        status=MEASURED,
        source="calls of compiled graphs in one batch over its steps of decoding",
    )
