"""Text parts as modules of plain tensors, made of operations that can be exported.

A decoder gets embeddings, a bias that is added to the attention scores, positions, and its keys and
values as flat tensors. Masks, positions and the fusion of pictures and text are made outside.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicLayer

EMBEDDING, ENCODER, DECODER = "text_embedding", "encoder", "decoder"
EMBEDDINGS, BIAS, POSITIONS = "inputs_embeds", "bias", "position_ids"
CROSS_BIAS, LOGITS = "cross_bias", "logits"
BATCH, NEW, PAST, ENCODED = "batch", "new", "past", "encoded"


@dataclass(frozen=True, kw_only=True)
class CacheShape:
    """Keys and values of a decoder: [batch, heads, tokens, width] for each layer."""

    layers: int
    heads: int
    width: int

    def names(self, prefix: str) -> list[str]:
        """The names of the keys and values of all layers, as in `past_k0, past_v0, past_k1`."""
        return [f"{prefix}_{kind}{layer}" for layer in range(self.layers) for kind in "kv"]


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """The size of an example: rows, new tokens, tokens in the cache, tokens of the encoder."""

    batch: int
    new: int
    past: int
    encoded: int


class TextPart(nn.Module):
    """A part of the language side with named inputs and outputs."""

    # The dimensions of each input that vary, with names.
    axes: Mapping[str, Mapping[int, str]]
    outputs: Sequence[str]

    @abstractmethod
    def example(self, lengths: Lengths, generator: torch.Generator) -> dict[str, Tensor]:
        """Inputs of noise; every row but the last is padded on the left by its number."""


class TokenEmbedding(TextPart):
    """Token ids to embeddings."""

    axes: Mapping[str, Mapping[int, str]] = {"input_ids": {0: BATCH, 1: NEW}}
    outputs = (EMBEDDINGS,)

    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.table: Any = table

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.table(input_ids)  # type: ignore[no-any-return]

    def example(self, lengths: Lengths, generator: torch.Generator) -> dict[str, Tensor]:
        shape = (lengths.batch, lengths.new)
        return {"input_ids": torch.randint(len(self.table.weight), shape, generator=generator)}


class Decoder(TextPart):
    """The library's decoder with its head at the last position; positions are an input."""

    def __init__(
        self, *, decoder: nn.Module, head: nn.Module, cache: CacheShape, width: int, axes: int
    ) -> None:
        super().__init__()
        self.decoder, self.head = decoder, head
        self.cache, self.width, self.position_axes = cache, width, axes
        first = int(axes > 1)
        self.axes = {
            EMBEDDINGS: {0: BATCH, 1: NEW},
            BIAS: {0: BATCH, 2: NEW, 3: "total"},
            POSITIONS: {first: BATCH, first + 1: NEW},
            **{name: {0: BATCH, 2: PAST} for name in cache.names("past")},
        }
        self.outputs = [LOGITS, *cache.names("present")]

    def forward(
        self, inputs_embeds: Tensor, bias: Tensor, position_ids: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        cache = filled(past)
        hidden = self.decoder(
            inputs_embeds=inputs_embeds,
            attention_mask=bias,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return (self.head(hidden[:, -1:]), *flat(cache))

    def example(self, lengths: Lengths, generator: torch.Generator) -> dict[str, Tensor]:
        seen = padded_on_the_left(lengths.batch, lengths.past + lengths.new)
        places = (seen.cumsum(-1) - 1).clamp(min=0)[:, -lengths.new :]
        if self.position_axes > 1:
            # Axes that differ, as those of tokens in a picture do.
            places = places + torch.arange(self.position_axes)[:, None, None]
        return {
            EMBEDDINGS: _noise(generator, lengths.batch, lengths.new, self.width),
            BIAS: attention_bias(seen, lengths.new, torch.float32),
            POSITIONS: places,
            **noise_cache(self.cache, "past", lengths.batch, lengths.past, generator),
        }


def filled(past: Sequence[Tensor]) -> DynamicCache:
    """A cache that holds these keys and values; nothing is concatenated with an empty one."""
    cache = DynamicCache()
    for keys, values in zip(past[::2], past[1::2], strict=True):
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def flat(cache: Any) -> Iterable[Tensor]:
    """The keys and values of a cache, layer by layer."""
    return (tensor for layer in cache.layers for tensor in (layer.keys, layer.values))


def attention_bias(seen: Tensor, new: int, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of the last `new` tokens: [B, T] of 0 and 1 to [B, 1, new, T].

    A token attends to tokens that are no padding and not behind it.
    """
    total = seen.shape[1]
    allowed = seen[:, None, None, :].bool()
    if new > 1:
        places = torch.arange(total, device=seen.device)
        allowed = allowed & (places[None, :] <= places[total - new :, None])
    return bias_of(allowed, dtype)


def bias_of(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where attention is allowed, else the lowest number."""
    lowest = torch.finfo(dtype).min
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(
        ~allowed, lowest
    )


def padded_on_the_left(batch: int, total: int) -> Tensor:
    """A mask [B, T]: the last row is whole, each row before it has one more token of padding."""
    padding = torch.arange(batch - 1, -1, -1).clamp(max=total - 1)
    return (torch.arange(total) >= padding[:, None]).long()


def noise_cache(
    cache: CacheShape, prefix: str, batch: int, tokens: int, generator: torch.Generator
) -> dict[str, Tensor]:
    return {
        name: _noise(generator, batch, cache.heads, tokens, cache.width)
        for name in cache.names(prefix)
    }


def _noise(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)
