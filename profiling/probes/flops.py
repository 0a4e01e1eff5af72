"""FLOPs probe: what the first full batch costs, by phase, as the engine counts it, checked."""

from __future__ import annotations

from collections.abc import Iterator

from profiling.costs.phase_costs import PhaseCosts, PhaseCount
from profiling.engines.trace import COUNTED_PHASES
from profiling.engines.workload import Workload
from profiling.errors import Unsupported
from profiling.records import DERIVED, Reading, reading, unavailable

TOLERANCES = {"analytic": 0.001, "fvcore": 0.02}
_ABSENT = {
    "projector": "this family has no projector",
    "decode": "the only new token comes out of the prefill",
}


class FlopsProbe:
    """Counts, and compares the count with independent ones; runs nothing."""

    timed = False

    def __init__(self, *, cross_check: bool) -> None:
        self.cross_check = cross_check

    def measure(self, workload: Workload) -> Iterator[Reading]:
        try:
            costs = workload.engine.costs(
                workload.encode(0), length=workload.max_new_tokens, cross_check=self.cross_check
            )
        except Unsupported as reason:
            yield unavailable("flops", str(reason))
            for phase in COUNTED_PHASES:
                yield unavailable(f"flops_{phase}", str(reason))
            return
        yield from read_costs(costs)


def read_costs(costs: PhaseCosts) -> Iterator[Reading]:
    """Costs as readings: the counts that are right, and beside them the independent ones."""
    yield from _headlines(costs)
    yield from _steps(costs)
    yield from _others(costs)


def disagreement(count: PhaseCount, costs: PhaseCosts) -> str | None:
    """What is wrong with the count of a phase, in one line."""
    for method, tolerance in TOLERANCES.items():
        other = getattr(count, method)
        if count.counted is None or not isinstance(other, int):
            continue
        if abs(count.counted - other) > tolerance * other:
            name = costs.cross_sources[method]
            return f"{costs.source}: {count.counted}, but {name}: {other}"
    return None


def _headlines(costs: PhaseCosts) -> Iterator[Reading]:
    wrong = {count.phase: disagreement(count, costs) for count in costs.counts}
    problems = [problem for problem in wrong.values() if problem]
    if costs.uncounted:
        problems.append(f"no formula for {', '.join(sorted(costs.uncounted))}")
    total = None if problems else sum(count.counted or 0 for count in costs.counts)
    yield _headline(costs, "flops", total, "; ".join(problems))
    for count in costs.counts:
        reason = wrong[count.phase] or {**_ABSENT, **costs.left_out}.get(count.phase, "")
        if costs.uncounted:
            reason = problems[-1]
        value = None if costs.uncounted or wrong[count.phase] else count.counted
        yield _headline(costs, f"flops_{count.phase}", value, reason)


def _headline(costs: PhaseCosts, metric: str, value: int | None, reason: str) -> Reading:
    if value is None:
        return unavailable(metric, reason)
    other = costs.cross_sources.get("analytic")
    within = "" if other is None else f", within {TOLERANCES['analytic']:.1%} of {other}"
    return _flops(metric, value, f"{costs.source}{within}")


def _steps(costs: PhaseCosts) -> Iterator[Reading]:
    """The steps of decoding that were counted by themselves."""
    for step, flops in costs.steps.items():
        yield _flops("flops_step", flops, costs.source, step)


def _others(costs: PhaseCosts) -> Iterator[Reading]:
    for count in costs.counts:
        for method, source in costs.cross_sources.items():
            value, metric = getattr(count, method), f"flops_{count.phase}_{method}"
            if isinstance(value, str):
                yield unavailable(metric, value)
            elif value is not None:
                yield _flops(metric, value, source)


def _flops(metric: str, value: int, source: str, repeat: int | None = None) -> Reading:
    return reading(
        metric=metric,
        value=value,
        status=DERIVED,
        source=source,
        repeat=repeat,
    )


PROBE = FlopsProbe
