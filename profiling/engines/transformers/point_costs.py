"""What a point costs without a network that has values: FLOPs, bytes and parameters by part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from profiling.costs.accounting import account, geometry_of
from profiling.costs.phase_costs import PhaseCosts
from profiling.costs.twin import Costs, Twin, count
from profiling.engines.transformers.optimizations.optimization import read_stack
from profiling.models.family import Family
from profiling.models.loading import LoadPlan, load_family
from profiling.models.model import Model
from profiling.models.weights import locate
from profiling.points.point import Point
from profiling.samples.samples import Sample, full_batches, load_samples


@dataclass(frozen=True, kw_only=True)
class PointCosts:
    """The first full batch of a point as plain numbers."""

    sizes: tuple[tuple[int, int], ...]  # width and height of each picture
    prompt_tokens: int
    new_tokens: int
    dtype: str
    parameters: Mapping[str, int]  # by part
    element_bytes: int
    phases: PhaseCosts
    cache_bytes: int  # of keys and values, for each decoded token of a row
    encoded_cache_bytes: int  # the same for each encoded token; 0 where nothing is encoded


def count_point(point: Point) -> PointCosts:
    """Count a point on the meta device; no weights are read."""
    family, dtype = _load_family(point)
    twin = Twin(family=family, attention="sdpa")
    counts = {name: p.numel() for name, p in twin.network.named_parameters()}
    geometry = geometry_of(family, _encode(point, twin, dtype), point.max_new_tokens)
    costs = count(family, geometry)
    return PointCosts(
        sizes=geometry.sizes,
        prompt_tokens=geometry.prompt_tokens,
        new_tokens=geometry.new_tokens,
        dtype=str(dtype).removeprefix("torch."),
        parameters=_by_part(twin, costs, counts),
        element_bytes=dtype.itemsize,
        phases=account(
            family,
            geometry,
            weight_bytes={name: elements * dtype.itemsize for name, elements in counts.items()},
            cache_element_bytes=dtype.itemsize,
            cross_check=False,
            as_computed=True,
        ),
        cache_bytes=costs.cache.elements * dtype.itemsize,
        encoded_cache_bytes=costs.cache.encoded_elements * dtype.itemsize,
    )


def _load_family(point: Point) -> tuple[Family, torch.dtype]:
    source = locate(point)
    family = load_family(point, source)
    plan = LoadPlan(dtype=None)
    for optimization in read_stack(point.optimization_settings):
        plan = optimization.plan(plan)
    named = point.public_dtype if source.values == "random" else family.config.dtype
    named = named if isinstance(named, torch.dtype) else getattr(torch, str(named or "float32"))
    return family, plan.dtype or named


def _encode(point: Point, twin: Twin, dtype: torch.dtype) -> Mapping[str, Tensor]:
    """The processor's tensors for the first full batch."""
    model = Model(
        network=twin.network,
        family=twin.family,
        device=torch.device("meta"),
        dtype=dtype,
        stored_values=False,
    )
    (batch, *_) = full_batches(_read_samples(point), point.batch_size)
    prepared = [model.prepare(sample, point.prompt_len) for sample in batch]
    return model.encode(prepared, point.img_size)


def _read_samples(point: Point) -> Sequence[Sample]:
    """As many as the first full batch takes."""
    at_most = point.num_samples or point.batch_size
    return load_samples(Path(point.dataset_folder), count=None, at_most=at_most)


def _by_part(twin: Twin, costs: Costs, counts: Mapping[str, int]) -> Mapping[str, int]:
    by_part: Counter[str] = Counter()
    for name, elements in counts.items():
        by_part[_part_of(twin, costs, name)] += elements
    return by_part


def _part_of(twin: Twin, costs: Costs, name: str) -> str:
    parts = twin.family.layout.parts
    # A head that is tied to the embedding goes by the embedding's name.
    if name in {twin.names[id(weight)] for weight in twin.part(parts.head).parameters()}:
        return "head"
    places = [
        *(("projector", path) for path in parts.projector),
        ("vision", parts.vision),
        *((("text encoder", parts.text_encoder),) if parts.text_encoder else ()),
        ("decoder" if name in costs.prefill.weights else "embeddings", parts.language),
    ]
    return next((part for part, path in places if name.startswith(path + ".")), "other")
