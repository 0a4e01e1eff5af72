"""A dense copy of a network on the meta device, and the cost of each phase of a generation on it.

The copy has the shapes of the real network and no values, so that the largest network is counted in
seconds on any machine. Its parts are called one by one, since a whole generation reads values.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache
from transformers.initialization import no_init_weights

from profiling.costs.counting import FlopCounter
from profiling.models.family import Family
from profiling.models.geometry import Cut, Geometry, blank


class Forward(NamedTuple):
    """A call of one part."""

    path: str
    inputs: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The cost of a forward."""

    flops: int
    weights: frozenset[str]  # the parameters that were read, by name
    uncounted: frozenset[str]  # unknown operators, which may contain products


@dataclass(frozen=True, kw_only=True)
class CacheShape:
    """Cache elements per token, for one row of the batch."""

    elements: int  # of a token in the decoder
    encoded_elements: int  # of a token in the text encoder; 0 without one
    layers: int = 1  # of the decoder

    def decoded(self, geometry: Geometry, step: int) -> int:
        """The elements of a row in the decoder's cache before a decoding step."""
        if geometry.cut is None:
            return self.elements * self.length(geometry, step)
        lengths = sum(count * length for count, length in geometry.stages(self.layers))
        return self.elements * lengths // self.layers + self.elements * (step - 1)

    def length(self, geometry: Geometry, step: int) -> int:
        """The number of tokens in the decoder's cache before a decoding step."""
        return step if self.encoded_elements else geometry.prompt_tokens + step - 1


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The cost of a batch by phase."""

    geometry: Geometry
    vision: Tally
    projector: Tally | None
    prefill: Tally
    steps: Mapping[int, Tally]  # decoding steps: the first, the last, and requested ones
    cache: CacheShape

    @property
    def decode_flops(self) -> int:
        """All steps: the cache grows by one token per step, so the cost grows linearly."""
        count = self.geometry.new_tokens - 1
        return count * (self.steps[1].flops + self.steps[count].flops) // 2 if count else 0

    @property
    def full_cache(self) -> int:
        """The elements of the cache of all rows after the last step."""
        geometry, cache = self.geometry, self.cache
        encoded = cache.encoded_elements * geometry.prompt_tokens
        return geometry.batch_size * (cache.decoded(geometry, geometry.new_tokens) + encoded)

    @property
    def uncounted(self) -> frozenset[str]:
        tallies = [self.vision, self.projector, self.prefill, *self.steps.values()]
        return frozenset().union(*(tally.uncounted for tally in tallies if tally))

    def by_phase(self) -> dict[str, int | None]:
        """FLOPs of each phase; None if there is no such phase."""
        return {
            "vision": self.vision.flops,
            "projector": self.projector.flops if self.projector else None,
            "prefill": self.prefill.flops,
            "decode": self.decode_flops if self.steps else None,
        }


def analytic_by_phase(family: Family, geometry: Geometry) -> dict[str, int | None]:
    """FLOPs by arithmetic from the configuration, each decoding step separately."""
    steps = range(1, geometry.new_tokens)
    decode = sum(family.costs.decode_step_flops(geometry, step) for step in steps)
    return {
        "vision": family.costs.vision_flops(geometry),
        "projector": family.costs.projector_flops(geometry)
        if family.layout.parts.projector
        else None,
        "prefill": family.costs.prefill_flops(geometry),
        "decode": decode if steps else None,
    }


class Twin:
    """The dense copy of a family's network, without values."""

    def __init__(self, *, family: Family, attention: str) -> None:
        self.family = family
        with torch.device("meta"), no_init_weights():
            self.network: Any = family.layout.network_class._from_config(
                copy.deepcopy(family.config),
                dtype=torch.get_default_dtype(),
                attn_implementation=attention,
            )
            self.network.tie_weights()
            family.layout.untie(self.network)
        self.network.eval().requires_grad_(False)
        family.layout.adapt(self.network)

    @cached_property
    def names(self) -> dict[int, str]:
        """The first name of each parameter by its identity."""
        return {id(parameter): name for name, parameter in self.network.named_parameters()}

    def part(self, path: str) -> nn.Module:
        module: nn.Module = self.network.get_submodule(path)
        return module

    def count(self, geometry: Geometry, *, steps: Iterable[int] = ()) -> Costs:
        """All phases; for decoding the first and the last step, and `steps`."""
        if geometry.cut is not None:
            return self._count_cut(geometry, geometry.cut, steps)
        last = geometry.new_tokens - 1
        asked = sorted({*steps, 1, last} if last else set())
        cache = self.new_cache()
        prefill = self._tally(self.prefill(geometry, cache))
        shape = _cache_shape(cache)
        return Costs(
            geometry=geometry,
            vision=self._count_vision(geometry),
            projector=self._count_projector(geometry),
            prefill=prefill,
            steps={step: self._tally(self.step(geometry, step, cache)) for step in asked},
            cache=shape,
        )

    def _count_cut(self, geometry: Geometry, cut: Cut, steps: Iterable[int]) -> Costs:
        """A count with each of the two lengths, weighted by the layers that see it."""
        whole = self.count(replace(geometry, cut=None), steps=steps)
        less = self.count(replace(geometry, cut=None, prompt_tokens=cut.tokens), steps=steps)
        layers = self.family.costs.decoder_stack.layers

        def mix(one: Tally, other: Tally) -> Tally:
            # Layers are equal, so that this is a whole number.
            flops = (cut.layer * one.flops + (layers - cut.layer) * other.flops) // layers
            return replace(one, flops=flops)

        return replace(
            whole,
            geometry=geometry,
            prefill=mix(whole.prefill, less.prefill),
            steps={step: mix(tally, less.steps[step]) for step, tally in whole.steps.items()},
        )

    # The forwards of each phase

    def vision(self, geometry: Geometry) -> list[Forward]:
        """The vision part, with whatever of the projector is inside of it."""
        return [Forward(self.family.layout.parts.vision, self.family.costs.vision_inputs(geometry))]

    def projector(self, geometry: Geometry) -> list[Forward]:
        inputs = self.family.costs.projector_inputs(geometry)
        return [
            Forward(*pair) for pair in zip(self.family.layout.parts.projector, inputs, strict=True)
        ]

    def prefill(self, geometry: Geometry, cache: Any) -> list[Forward]:
        """The language model's first pass, which fills an empty cache."""
        encoder = self.family.layout.parts.text_encoder
        if encoder is None:
            return self._language(geometry, cache, geometry.prompt_tokens)
        encoding = Forward(encoder, {"inputs_embeds": self._prompt(geometry)})
        return [encoding, *self._language(geometry, cache, 1)]

    def step(self, geometry: Geometry, step: int, cache: Any) -> list[Forward]:
        """The forward that makes new token `step` + 1; the cache is extended to its length."""
        _grow(cache, _cache_shape(cache).length(geometry, step))
        return self._language(geometry, cache, 1)

    def new_cache(self) -> Any:
        if self._decoder_only:
            return DynamicCache()
        return EncoderDecoderCache(DynamicCache(), DynamicCache())

    @property
    def _decoder_only(self) -> bool:
        return self.family.layout.parts.text_encoder is None

    def inside_vision(self, geometry: Geometry) -> list[Forward]:
        """What of the projector lies inside of the vision part."""
        prefix = self.family.layout.parts.vision + "."
        return [f for f in self.projector(geometry) if f.path.startswith(prefix)]

    def _language(self, geometry: Geometry, cache: Any, rows: int) -> list[Forward]:
        """`rows` tokens through the language model, with its head at the last position only."""
        columns = cache.get_seq_length() + rows
        inputs = {
            "inputs_embeds": self._embeddings(geometry, rows),
            "past_key_values": cache,
            "use_cache": True,
            **self.family.costs.decoder_inputs(geometry, rows, columns),
        }
        if not self._decoder_only:
            inputs["encoder_hidden_states"] = self._prompt(geometry)
        return [
            Forward(self.family.layout.decoder, inputs),
            Forward(self.family.layout.parts.head, {"input": self._embeddings(geometry, 1)}),
        ]

    def _prompt(self, geometry: Geometry) -> torch.Tensor:
        return self._embeddings(geometry, geometry.prompt_tokens)

    def _embeddings(self, geometry: Geometry, length: int) -> torch.Tensor:
        width = self.family.config.text_config.hidden_size
        return blank(geometry.batch_size, length, width)

    # Counting them

    def _count_vision(self, geometry: Geometry) -> Tally:
        whole = self._tally(self.vision(geometry))
        inner = self._tally(self.inside_vision(geometry))
        return Tally(
            flops=whole.flops - inner.flops,
            weights=whole.weights - inner.weights,
            uncounted=whole.uncounted,
        )

    def _count_projector(self, geometry: Geometry) -> Tally | None:
        forwards = self.projector(geometry)
        return self._tally(forwards) if forwards else None

    def _tally(self, forwards: Iterable[Forward]) -> Tally:
        with torch.inference_mode(), FlopCounter() as counter:
            for forward in forwards:
                self.part(forward.path)(**forward.inputs)
        return Tally(
            flops=counter.flops,
            weights=frozenset(self.names[key] for key in counter.parameters),
            uncounted=frozenset(counter.unknown),
        )


_costs: dict[tuple[str, str, Geometry], Costs] = {}


def count(family: Family, geometry: Geometry) -> Costs:
    """The cost of a batch, cached in this process by configuration and geometry."""
    key = (family.name, family.config.to_json_string(use_diff=False), geometry)
    if key not in _costs:
        _costs[key] = Twin(family=family, attention="sdpa").count(geometry)
    return _costs[key]


def _own_cache(cache: Any) -> Any:
    """The self-attention cache, without an encoder-decoder's cross-attention cache."""
    return getattr(cache, "self_attention_cache", cache)


def _grow(cache: Any, length: int) -> None:
    """Extend a cache to `length` tokens."""
    own = _own_cache(cache)
    missing = length - own.get_seq_length()
    if missing == 0:
        return
    for index, layer in enumerate(own.layers):
        batch, heads, _, width = layer.keys.shape
        more = blank(batch, heads, missing, width)
        own.update(more, more, index)


def _cache_shape(cache: Any) -> CacheShape:
    own = _own_cache(cache)
    encoded = 0 if own is cache else _elements(cache.cross_attention_cache)
    return CacheShape(elements=_elements(own), encoded_elements=encoded, layers=len(own.layers))


def _elements(cache: Any) -> int:
    def of_a_token(tensor: torch.Tensor) -> int:
        _, heads, _, width = tensor.shape
        return int(heads * width)

    return sum(of_a_token(layer.keys) + of_a_token(layer.values) for layer in cache.layers)
