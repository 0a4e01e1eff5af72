"""A decoder in a runtime, in the place of the library's: it takes embeddings and returns logits.

The network around it stays the library's, so that generate, positions, padding and stopping do too.
The head's place is taken by an identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput

from profiling.engines.transformers.bucketed_cache import BucketedCache, pad_left, round_up
from profiling.engines.transformers.runtime_cache import (
    LOWEST,
    Array,
    RuntimeCache,
    to_array,
)
from profiling.models.text_parts import (
    BIAS,
    CROSS_BIAS,
    EMBEDDINGS,
    POSITIONS,
    CacheShape,
)
from profiling.runtimes.runtime import Program, writable


class PlainOutput(dict[str, Any]):
    """What callers read of an output, without the checks that the library's own outputs make."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]


class RuntimePart(nn.Module):
    """A module whose work a runtime does; what it holds counts by the size of its graph."""

    def __init__(self, program: Program, *, held_bytes: int) -> None:
        super().__init__()
        self.program = program
        held = torch.empty(held_bytes, dtype=torch.uint8, device="meta")
        self.register_buffer("held", held, persistent=False)

    def profiled(self) -> AbstractContextManager[Sequence[Any]]:
        """While it is open, the runtime profiles what it runs, where it has a profiler."""
        return self.program.profiled()


class RuntimeEncoder(RuntimePart):
    """A text encoder up to the keys and values that the decoder's cross-attention reads."""

    # It returns what it was given.
    returns_states = False
    main_input_name = "input_ids"

    def __init__(self, program: Program, *, config: Any, table: nn.Module, held_bytes: int) -> None:
        super().__init__(program, held_bytes=held_bytes)
        self.config, self.embed_tokens = config, table
        self.cross: list[Array] = []
        self.cross_bias: Array = None

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    @torch.compiler.disable
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutput:
        given = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        embeddings = to_array(given)
        seen = _mask_of(attention_mask, embeddings.shape[:2])
        if self.program.buckets is not None:
            length = round_up(embeddings.shape[1], self.program.buckets.prompts)
            embeddings, seen = (pad_left(each, 1, length) for each in (embeddings, seen))
        self.cross_bias = numpy.where(seen[:, None, None, :], numpy.float32(0), LOWEST)
        feeds = {EMBEDDINGS: embeddings, BIAS: self.cross_bias}
        self.cross = self.program.run_held(feeds, room=None)
        # The states themselves are read by nothing but the cross-attention.
        return BaseModelOutput(last_hidden_state=given)


class RuntimeDecoder(RuntimePart):
    """A decoder with its head; its last hidden state are the logits of the last position."""

    def __init__(
        self,
        program: Program,
        *,
        config: Any,
        table: nn.Module,
        shape: CacheShape,
        axes: int,
        encoder: RuntimeEncoder | None,
        held_bytes: int,
    ) -> None:
        super().__init__(program, held_bytes=held_bytes)
        self.config, self.embed_tokens = config, table
        self.shape, self.axes = shape, axes
        # In a tuple, so that it is not taken for a module inside of this one.
        self._encoder = (encoder,)
        self._past = shape.names("past")
        self._cross = shape.names("cross") if encoder is not None else []

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> PlainOutput:
        given = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        embeddings = to_array(given)
        cache = past_key_values
        if not isinstance(cache, RuntimeCache):
            cache = self._begin(attention_mask, embeddings.shape[:2], cache)
        positions = None if position_ids is None else to_array(position_ids)
        logits = torch.from_numpy(self.step(embeddings, cache, positions))
        return PlainOutput(last_hidden_state=logits.to(given.device), past_key_values=cache)

    def _begin(
        self, mask: Tensor | None, shape: tuple[int, int], library: Cache | None
    ) -> RuntimeCache:
        """A cache for one generation, with what the library's own holds."""
        (encoder,) = self._encoder
        length = 0 if library is None else int(library.get_seq_length())
        seen = _mask_of(mask, (shape[0], length + shape[1]))
        given = {"shape": self.shape, "seen": seen, "cross": encoder.cross if encoder else ()}
        buckets = self.program.buckets
        cache = BucketedCache(**given, buckets=buckets) if buckets else RuntimeCache(**given)
        if library is not None and length:
            cache.take(library, length)
        return cache

    def step(self, embeddings: Array, cache: RuntimeCache, positions: Array | None) -> Array:
        """The logits [B, 1, V] behind the last of these tokens, which join the cache."""
        new = embeddings.shape[1]
        feeds: dict[str, Array] = {EMBEDDINGS: embeddings, BIAS: cache.bias(new)}
        (encoder,) = self._encoder
        if encoder is not None:
            feeds[CROSS_BIAS] = encoder.cross_bias
            feeds.update(zip(self._cross, cache.cross, strict=True))
        else:
            counted = cache.positions(new) if positions is None else positions
            feeds[POSITIONS] = self._placed(counted, len(embeddings))
        feeds = cache.arrange(feeds, new)
        feeds.update(zip(self._past, cache.arrays, strict=True))
        logits, *cache.arrays = self.program.run_held(feeds, room=cache.room)
        cache.length += new
        return writable(logits)

    def _placed(self, positions: Array, batch: int) -> Array:
        """Positions in the shape of the graph's input, [B, S] or [axes, B, S]."""
        wanted: tuple[int, ...] = (batch, positions.shape[-1])
        if self.axes > 1:
            wanted = (self.axes, *wanted)
            # A further axis, of positions in the text alone, comes first.
            positions = positions[-self.axes :] if positions.ndim == 3 else positions[None]
        if positions.shape != wanted:
            positions = numpy.broadcast_to(positions, wanted)
        return numpy.ascontiguousarray(positions, numpy.int64)


def skip_to_decoder(network: Any, decoder: RuntimeDecoder) -> None:
    """Have each step after the first go straight to the decoder.

    What the library's own forward does around it is for pictures and masks, which a step has none
    of. Steps whose positions the forward would make go through it.
    """
    kind = type(network)

    def call(self: Any, *args: Any, **given: Any) -> Any:
        cache = given.get("past_key_values")
        places = given.get("position_ids")
        if not isinstance(cache, RuntimeCache) or (places is None and decoder.axes > 1):
            return kind.__call__(self, *args, **given)
        ids = given["decoder_input_ids"] if "decoder_input_ids" in given else given["input_ids"]
        made = decoder(input_ids=ids, position_ids=places, past_key_values=cache)
        return PlainOutput(logits=made["last_hidden_state"], past_key_values=cache)

    # Generate asks for it twice a step, and the library looks through all parameters each time.
    device = network.device
    members = {"__call__": call, "device": property(lambda _: device)}
    network.__class__ = type(kind.__name__, (kind,), {**members, "__module__": kind.__module__})


def _mask_of(mask: Tensor | None, shape: tuple[int, ...]) -> Array:
    if mask is None:
        return numpy.ones(shape, bool)
    return to_array(mask).astype(bool)
