"""One pass under the engine's profiler, and its operators as readings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from profiling.engines.operators import OperatorTime, OperatorTrace
from profiling.engines.workload import Workload
from profiling.errors import Unsupported
from profiling.records import MEASURED, Reading, reading, unavailable

# Rows of one phase; the trace itself holds all.
_MOST = 10


@dataclass(frozen=True, kw_only=True)
class Traced:
    """The readings, and the trace file where there is one."""

    readings: list[Reading]
    chrome: bytes | None


def trace_pass(workload: Workload) -> Traced:
    # As in timed passes, so that nothing is known of the pictures.
    workload.engine.begin_pass()
    try:
        trace = workload.engine.trace_operators(lambda: workload.run(0))
    except Unsupported as reason:
        missing = [unavailable(name, str(reason)) for name in ("operator_s", "layer_s")]
        return Traced(readings=missing, chrome=None)
    return Traced(
        readings=[*_list_operators(trace), *_list_layers(trace)],
        chrome=trace.chrome,
    )


def _by_phase(trace: OperatorTrace) -> dict[str, list[OperatorTime]]:
    phases: dict[str, list[OperatorTime]] = defaultdict(list)
    for one in trace.operators:
        phases[one.phase].append(one)
    return phases


def _list_operators(trace: OperatorTrace) -> Iterator[Reading]:
    """The operators with the most time of their own, the slowest of each phase first."""
    for phase, operators in _by_phase(trace).items():
        ordered = sorted(operators, key=lambda one: -one.self_s)
        for rank, one in enumerate(ordered[:_MOST], 1):
            yield reading(
                metric="operator_s",
                value=one.self_s,
                status=MEASURED,
                source=f"{one.describe()}; {trace.source}",
                phase=phase,
                repeat=rank,
                batch=0,
            )


def _list_layers(trace: OperatorTrace) -> Iterator[Reading]:
    for phase, operators in _by_phase(trace).items():
        layers: dict[str, float] = defaultdict(float)
        for one in operators:
            layers[one.layer] += one.self_s
        ordered = sorted(layers.items(), key=lambda item: -item[1])
        for rank, (layer, seconds) in enumerate(ordered, 1):
            yield reading(
                metric="layer_s",
                value=seconds,
                status=MEASURED,
                source=f"{layer}; {trace.source}",
                phase=phase,
                repeat=rank,
                batch=0,
            )
