"""What a point costs without a network that has values: FLOPs, bytes and parameters by part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from profiling.costs.accounting import account, count_tokens, geometry_of
from profiling.costs.conventions import Counted
from profiling.costs.phase_costs import PhaseCosts
from profiling.costs.twin import Costs, Twin, count
from profiling.engines.transformers.optimizations.optimization import (
    Optimization,
    check_anywhere,
    check_shown,
    read_stack,
)
from profiling.errors import ConfigError, Unsupported
from profiling.models.family import Family
from profiling.models.geometry import Geometry
from profiling.models.loading import LoadPlan, find_family, load_family, quantized_layers
from profiling.models.model import Model
from profiling.models.weights import WeightsSource, locate, stored_format
from profiling.points.point import Point
from profiling.samples.samples import Sample, full_batches
from profiling.samples.showing import load_point


@dataclass(frozen=True, kw_only=True)
class PointCosts:
    """The first full batch of a point as plain numbers."""

    sizes: tuple[tuple[int, int], ...]  # width and height of each picture or clip
    rows: int
    frames: tuple[int, ...]  # of each of them, those that the network merges in time as one
    prompt_tokens: int
    new_tokens: int
    dtype: str
    parameters: Mapping[str, int]  # by part
    part_bytes: Mapping[str, int]  # of the weights of each part, quantized ones as they are stored
    dense_bytes: int  # of all weights in the dtype
    phases: PhaseCosts
    cache_bytes: int  # of keys and values, for each decoded token of a row
    encoded_cache_bytes: int  # the same for each encoded token; 0 where nothing is encoded
    full_cache_bytes: int  # of the whole batch after the last step
    activation_bytes: int  # an estimate of the most that a forward holds at one time
    uncertain: Sequence[str]  # what a count does not know of the weights or the optimizations

    @property
    def weight_bytes(self) -> int:
        return sum(self.part_bytes.values())


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Numbers of tokens to count with in place of those that the processor makes."""

    prompt_tokens: int | None
    visual_tokens: int | None

    def instead_of(self, visual: Sequence[int], text: Sequence[int]) -> tuple[list[int], list[int]]:
        """Visual tokens and text tokens of each row; a given length is that of every row."""
        visual = [self.visual_tokens or count for count in visual]
        if self.prompt_tokens is None:
            return visual, list(text)
        if self.prompt_tokens < max(visual):
            allowed = f"allowed is a whole number from {max(visual)}, the number of visual tokens"
            raise ConfigError("prompt_tokens", self.prompt_tokens, allowed)
        return visual, [self.prompt_tokens - count for count in visual]


AS_PROCESSED = Lengths(prompt_tokens=None, visual_tokens=None)


@dataclass(frozen=True, kw_only=True)
class PointShape:
    """The first full batch of a point: what arithmetic counts from."""

    family: Family
    dtype: torch.dtype
    geometry: Geometry
    visual_tokens: tuple[int, ...]  # of each row
    left_out: Mapping[str, str]  # phases, with the reason
    stack: Sequence[Optimization]

    def counted(self) -> Counted:
        return Counted(
            costs=self.family.costs,
            geometry=self.geometry,
            visual_tokens=self.visual_tokens,
            has_projector=bool(self.family.layout.parts.projector),
            left_out=frozenset(self.left_out),
        )


def shape_point(point: Point, *, lengths: Lengths) -> PointShape:
    """The shape of a point's first full batch; no network is made."""
    running = find_family(point.model).costs.counted_running
    if running is not None:
        raise Unsupported(running)
    stack = read_stack(point.optimization_settings)
    check_anywhere(point, stack)
    family, dtype = _load_family(point)
    inputs = _encode(point, family, dtype)
    geometry = geometry_of(family, inputs, point.max_new_tokens)
    visual, text = lengths.instead_of(*count_tokens(family, inputs))
    if lengths != AS_PROCESSED:
        longest = max(v + t for v, t in zip(visual, text, strict=True))
        geometry = replace(geometry, prompt_tokens=longest)
    left_out: dict[str, str] = {}
    for optimization in stack:
        optimization.check_family(family)
        geometry = optimization.shape(geometry, visual_tokens=visual, text_tokens=text)
        left_out |= optimization.left_out
    # Where no picture is seen, text stands in the place of visual tokens.
    visual = [0] * len(visual) if "vision" in left_out else visual
    return PointShape(
        family=family,
        dtype=dtype,
        geometry=geometry,
        visual_tokens=tuple(visual),
        left_out=left_out,
        stack=stack,
    )


def count_point(point: Point, *, lengths: Lengths) -> PointCosts:
    """Count a point on the meta device; no weights are read."""
    shape = shape_point(point, lengths=lengths)
    family, dtype, geometry = shape.family, shape.dtype, shape.geometry
    twin = Twin(family=family, attention="sdpa")
    counts = {name: p.numel() for name, p in twin.network.named_parameters()}
    costs = count(family, geometry)
    sizes = {name: elements * dtype.itemsize for name, elements in counts.items()}
    sizes |= _quantized_sizes(point, shape, counts)
    element_bytes = _cache_element_bytes(shape)
    return PointCosts(
        sizes=geometry.sizes,
        rows=geometry.batch_size,
        frames=geometry.frame_counts,
        prompt_tokens=geometry.prompt_tokens,
        new_tokens=geometry.new_tokens,
        dtype=str(dtype).removeprefix("torch."),
        parameters=_by_part(twin, costs, counts),
        part_bytes=_by_part(twin, costs, sizes),
        dense_bytes=sum(counts.values()) * dtype.itemsize,
        phases=account(
            family,
            geometry,
            weight_bytes=sizes,
            cache_element_bytes=element_bytes,
            cross_check=False,
            as_computed=True,
        ).without(shape.left_out),
        cache_bytes=int(costs.cache.elements * element_bytes),
        encoded_cache_bytes=int(costs.cache.encoded_elements * element_bytes),
        full_cache_bytes=_full_cache_bytes(shape, costs),
        activation_bytes=family.costs.widest_rows(geometry) * dtype.itemsize,
        uncertain=list(_say_uncertain(point, shape)),
    )


def _say_uncertain(point: Point, shape: PointShape) -> Iterator[str]:
    said = getattr(shape.family.config, "quantization_config", None)
    if said is not None and point.weights == "pretrained" and stored_format(point) is None:
        yield "the checkpoint's weights are quantized, and counted in the dtype"
    for optimization in shape.stack:
        if optimization.uncertain is not None:
            yield optimization.uncertain


def _quantized_sizes(point: Point, shape: PointShape, counts: Mapping[str, int]) -> dict[str, int]:
    """Bytes of the weights that are not stored in the dtype, by name."""
    return {
        f"{layer}.weight": int(counts[f"{layer}.weight"] * bits / 8)
        for layer, bits in _stored_bits(point, shape).items()
    }


def _stored_bits(point: Point, shape: PointShape) -> dict[str, float]:
    """Bits of a value of each quantized layer: of the checkpoint, of loading, and after it."""
    family, plan = shape.family, _plan(shape.stack)
    bits: dict[str, float] = {}
    stored = stored_format(point)
    if stored is not None:
        # It imports what a checkpoint that is not quantized has no use for.
        from profiling.models.stored_layers import layer_bits

        assert point.checkpoint is not None
        bits |= layer_bits(family.empty_network(), stored, Path(point.checkpoint).expanduser())
    if plan.quantization is not None:
        network = family.empty_network()
        for name in quantized_layers(family, plan):
            inputs = network.get_submodule(name).in_features
            bits[name] = plan.quantization.stored_bits(inputs, shape.dtype)
    for optimization in shape.stack:
        bits |= optimization.stored_bits(family)
    return bits


def _cache_element_bytes(shape: PointShape) -> float:
    found = (one.cache_bits(shape.dtype) for one in shape.stack)
    bits = next((one for one in found if one is not None), None)
    return shape.dtype.itemsize if bits is None else bits / 8


def _full_cache_bytes(shape: PointShape, costs: Costs) -> int:
    """All keys and values after the last step; the newest may not be quantized yet."""
    geometry, element_bytes = shape.geometry, _cache_element_bytes(shape)
    newest = sum(one.newest_tokens(geometry.new_tokens - 1) for one in shape.stack)
    wider = geometry.batch_size * newest * costs.cache.elements
    return int(costs.full_cache * element_bytes + wider * (shape.dtype.itemsize - element_bytes))


def _plan(stack: Sequence[Optimization]) -> LoadPlan:
    plan = LoadPlan(dtype=None)
    for optimization in stack:
        plan = optimization.plan(plan)
    return plan


def _load_family(point: Point) -> tuple[Family, torch.dtype]:
    source = locate(point)
    family = _families.get((point.model, source.config)) or _keep_family(point, source)
    plan = _plan(read_stack(point.optimization_settings))
    named = point.public_dtype if source.values == "random" else family.config.dtype
    named = named if isinstance(named, torch.dtype) else getattr(torch, str(named or "float32"))
    return family, plan.dtype or named


_families: dict[tuple[str, str], Family] = {}


def _keep_family(point: Point, source: WeightsSource) -> Family:
    """Read once for all points of a command: loading a processor takes longer than counting."""
    family = _families[point.model, source.config] = load_family(point, source)
    return family


def _encode(point: Point, family: Family, dtype: torch.dtype) -> Mapping[str, Tensor]:
    """The processor's tensors for the first full batch."""
    model = Model(
        # Nothing is asked of it before a batch is encoded.
        network=None,
        family=family,
        device=torch.device("meta"),
        dtype=dtype,
        stored_values=False,
    )
    samples = _read_samples(point)
    check_shown(point, samples)
    (batch, *_) = full_batches(samples, point.batch_size)
    prepared = [model.prepare(sample, point.prompt_len) for sample in batch]
    return model.encode(prepared, point.img_size)


def _read_samples(point: Point) -> Sequence[Sample]:
    """As many as the first full batch takes."""
    return load_point(point, count=None, at_most=point.num_samples or point.batch_size)


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
