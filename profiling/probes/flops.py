"""FLOPs probe: what the first full batch costs, by phase, counted on a dense twin and checked.

The count is that of the library's own operators at the shapes of the real, padded batch; the
network that is being measured is never touched, so a quantized or exported one has the FLOPs of
the plain model. Elementwise work, norms, softmax and rotations are counted by neither method.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from profiling.costs.fvcore_counting import count_with_fvcore
from profiling.costs.twin import Costs, analytic_by_phase
from profiling.costs.twin import count as count_costs
from profiling.engines.workload import Workload
from profiling.models.geometry import Geometry
from profiling.records import DERIVED, Reading, unavailable

ANALYTIC_TOLERANCE = 0.001
FVCORE_TOLERANCE = 0.02

_COUNTED = "operators counted on a dense twin without values"
_ANALYTIC = "arithmetic from the configuration"
_FVCORE = "fvcore's multiply-adds, times two, on a dense twin with eager attention"
_ABSENT = {
    "projector": "this family has no projector",
    "decode": "the only new token comes out of the prefill",
}


@dataclass(frozen=True, kw_only=True)
class Count:
    """FLOPs of one phase by every method; None where a method has nothing to say."""

    phase: str
    counted: int | None
    analytic: int | None
    fvcore: int | str | None  # or why it could not trace the phase

    def disagreement(self) -> str | None:
        """What is wrong with the count, in one line."""
        for name, other, tolerance in (
            (_ANALYTIC, self.analytic, ANALYTIC_TOLERANCE),
            (_FVCORE, self.fvcore, FVCORE_TOLERANCE),
        ):
            if self.counted is None or not isinstance(other, int):
                continue
            if abs(self.counted - other) > tolerance * other:
                return f"{_COUNTED}: {self.counted}, but {name}: {other}"
        return None


class FlopsProbe:
    """Counts, and holds the count against independent ones; runs nothing."""

    def __init__(self, *, cross_check: bool) -> None:
        self.cross_check = cross_check

    def measure(self, workload: Workload) -> Iterator[Reading]:
        family = workload.model.family
        geometry = geometry_of(workload)
        costs = count_costs(family, geometry)
        fvcore = dict(count_with_fvcore(family, geometry)) if self.cross_check else {}
        analytic = analytic_by_phase(family, geometry)
        counts = [
            Count(phase=phase, counted=flops, analytic=analytic[phase], fvcore=fvcore.get(phase))
            for phase, flops in costs.by_phase().items()
        ]
        yield from _headlines(counts, costs)
        yield from _steps(costs)
        yield from _others(counts)


def geometry_of(workload: Workload) -> Geometry:
    """The shape of the first full batch at the timed length."""
    inputs = workload.encode(0)
    return Geometry(
        sizes=tuple(workload.model.family.processing.picture_sizes(inputs)),
        prompt_tokens=int(inputs["input_ids"].shape[1]),
        new_tokens=workload.max_new_tokens,
    )


def _headlines(counts: list[Count], costs: Costs) -> Iterator[Reading]:
    problems = [problem for count in counts if (problem := count.disagreement())]
    if costs.uncounted:
        problems.append(f"no formula for {', '.join(sorted(costs.uncounted))}")
    total = None if problems else sum(count.counted or 0 for count in counts)
    yield _headline("total", "flops", total, "; ".join(problems))
    for count in counts:
        reason = count.disagreement() or _ABSENT.get(count.phase, "")
        if costs.uncounted:
            reason = problems[-1]
        value = None if costs.uncounted or count.disagreement() else count.counted
        yield _headline(count.phase, f"flops_{count.phase}", value, reason)


def _headline(phase: str, metric: str, value: int | None, reason: str) -> Reading:
    if value is None:
        return unavailable(phase, metric, "FLOP", reason)
    source = f"{_COUNTED}, within {ANALYTIC_TOLERANCE:.1%} of {_ANALYTIC}"
    return _flops(phase, metric, value, source)


def _steps(costs: Costs) -> Iterator[Reading]:
    """The steps of decoding that were counted by themselves."""
    for step, tally in costs.steps.items():
        yield _flops("decode", "flops_step", tally.flops, _COUNTED, step)


def _others(counts: list[Count]) -> Iterator[Reading]:
    for count in counts:
        methods = ((_ANALYTIC, "analytic", count.analytic), (_FVCORE, "fvcore", count.fvcore))
        for source, suffix, value in methods:
            metric = f"flops_{count.phase}_{suffix}"
            if isinstance(value, str):
                yield unavailable(count.phase, metric, "FLOP", value)
            elif value is not None:
                yield _flops(count.phase, metric, value, source)


def _flops(phase: str, metric: str, value: int, source: str, repeat: int | None = None) -> Reading:
    return Reading(
        phase=phase,
        metric=metric,
        value=value,
        unit="FLOP",
        status=DERIVED,
        source=source,
        repeat=repeat,
    )


PROBE = FlopsProbe
