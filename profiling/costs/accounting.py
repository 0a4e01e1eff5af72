"""FLOPs and bytes of a batch by phase: the operators' count, independent counts beside it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from profiling.costs.fvcore_counting import count_with_fvcore
from profiling.costs.phase_costs import PhaseCosts, PhaseCount
from profiling.costs.traffic import moved_bytes
from profiling.costs.twin import analytic_by_phase, count
from profiling.models.family import Family
from profiling.models.geometry import Geometry

COUNTED = "operators counted on a dense twin without values"
ANALYTIC = "arithmetic from the configuration"
FVCORE = "fvcore's multiply-adds, times two, on a dense twin with eager attention"


def geometry_of(family: Family, inputs: Mapping[str, Tensor], new_tokens: int) -> Geometry:
    """The shape of generating so many tokens from a batch."""
    sizes, rows = tuple(family.processing.picture_sizes(inputs)), len(inputs["input_ids"])
    frames = tuple(family.processing.frame_counts(inputs))
    return Geometry(
        sizes=sizes,
        frames=frames if any(count > 1 for count in frames) else None,
        rows=None if rows == len(sizes) else rows,
        prompt_tokens=int(inputs["input_ids"].shape[1]),
        new_tokens=new_tokens,
    )


def count_tokens(family: Family, inputs: Mapping[str, Tensor]) -> tuple[list[int], list[int]]:
    """Visual tokens and other tokens of each row, without padding."""
    visual = family.processing.count_visual_tokens(inputs["input_ids"])
    text = inputs["attention_mask"].sum(dim=1) - visual
    return visual.tolist(), text.tolist()


def account(
    family: Family,
    geometry: Geometry,
    *,
    weight_bytes: Mapping[str, int],
    cache_element_bytes: float,
    cross_check: bool,
    as_computed: bool,
) -> PhaseCosts:
    """Every count of every phase; `weight_bytes` are the sizes of the weights by name."""
    costs = count(family, geometry)
    fvcore = dict(count_with_fvcore(family, geometry)) if cross_check else {}
    analytic = analytic_by_phase(family, geometry)
    return PhaseCosts(
        counts=tuple(
            PhaseCount(
                phase=phase, counted=flops, analytic=analytic[phase], fvcore=fvcore.get(phase)
            )
            for phase, flops in costs.by_phase().items()
        ),
        steps={step: tally.flops for step, tally in costs.steps.items()},
        uncounted=frozenset(costs.uncounted),
        moved_bytes=moved_bytes(costs, weight_bytes, cache_element_bytes=cache_element_bytes),
        as_computed=as_computed,
        source=COUNTED,
        cross_sources={"analytic": ANALYTIC, "fvcore": FVCORE},
    )
