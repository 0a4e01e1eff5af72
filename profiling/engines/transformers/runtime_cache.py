"""Keys and values that a runtime returned, in the place of the library's cache."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy
import torch
from torch import Tensor
from transformers.cache_utils import Cache

from profiling.models.text_parts import CacheShape
from profiling.runtimes.runtime import writable

Array = Any
LOWEST = numpy.finfo(numpy.float32).min
# The bias of steps is laid out for so many more tokens at once.
_AHEAD = 256
_AS_THEY_ARE = frozenset({torch.float32, torch.int64})


class ArrayLayer:
    """One layer's keys and values, as tensors that share the memory of the arrays."""

    def __init__(self, arrays: Sequence[Array], index: int) -> None:
        self._arrays, self._index = arrays, index

    @property
    def keys(self) -> Tensor:
        return torch.from_numpy(writable(self._arrays[2 * self._index]))

    @property
    def values(self) -> Tensor:
        return torch.from_numpy(writable(self._arrays[2 * self._index + 1]))


class RuntimeCache(Cache):  # type: ignore[misc]
    """Keys and values that a runtime returned; the library asks for their length only."""

    is_compileable = False
    # How many places there are for tokens; None: as many as there are tokens.
    room: int | None = None

    def __init__(self, *, shape: CacheShape, seen: Array, cross: Sequence[Array]) -> None:
        super().__init__(layers=[])
        self.shape, self.cross, self.length = shape, cross, 0
        empty = numpy.zeros((len(seen), shape.heads, 0, shape.width), numpy.float32)
        self.arrays: list[Array] = [empty] * (2 * shape.layers)
        self.seen = seen
        self._row = self._laid_out(seen)

    def _laid_out(self, seen: Array) -> Array:
        """The bias of a step over the tokens so far, with room for more."""
        row = numpy.zeros((len(seen), 1, 1, seen.shape[1] + _AHEAD), numpy.float32)
        row[:, 0, 0, : seen.shape[1]][~seen] = LOWEST
        return row

    def take(self, library: Any, length: int) -> None:
        """What the library's cache holds after so many tokens."""
        halves = [getattr(library, "self_attention_cache", library)]
        if self.cross:
            halves.append(library.cross_attention_cache)
        arrays = [
            [to_array(part) for layer in half.layers for part in (layer.keys, layer.values)]
            for half in halves
        ]
        self.arrays, self.cross, self.length = arrays[0], (arrays[1:] and arrays[1]) or (), length

    def bias(self, new: int) -> Array:
        """What is added to the scores of the next `new` tokens, whose mask is known."""
        total = self.length + new
        if new > 1:
            return _causal_bias(self.seen[:, :total], new)
        if total > self._row.shape[-1]:
            self._row = numpy.concatenate([self._row, numpy.zeros_like(self._row)], axis=-1)
        return numpy.ascontiguousarray(self._row[..., :total])

    def positions(self, new: int) -> Array:
        """The positions [B, new] of the next tokens, counted without padding."""
        before = self.seen[:, : self.length].sum(axis=1, keepdims=True)
        known = self.seen[:, self.length : self.length + new]
        ones = numpy.ones((len(self.seen), new - known.shape[1]), bool)
        counted = numpy.concatenate([known, ones], axis=1).cumsum(axis=1)
        beyond = max(0, self.length - self.seen.shape[1])
        return numpy.maximum(before + beyond + counted - 1, 0)

    def arrange(self, feeds: dict[str, Array], new: int) -> dict[str, Array]:
        """The inputs for the next tokens in the shapes that the program is given; arrays follow."""
        return feeds

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    @property
    def self_attention_cache(self) -> SimpleNamespace:
        layers = [ArrayLayer(self.arrays, index) for index in range(self.shape.layers)]
        return SimpleNamespace(layers=layers)

    @property
    def cross_attention_cache(self) -> SimpleNamespace | None:
        if not self.cross:
            return None
        layers = [ArrayLayer(self.cross, index) for index in range(self.shape.layers)]
        return SimpleNamespace(layers=layers)


def _causal_bias(seen: Array, new: int) -> Array:
    """0 where a token attends, else the lowest number: [B, T] to [B, 1, new, T]."""
    total = seen.shape[1]
    places = numpy.arange(total)
    allowed = seen[:, None, None, :] & (places <= places[total - new :, None])
    return numpy.where(allowed, numpy.float32(0), LOWEST)


def to_array(tensor: Tensor) -> Array:
    """A tensor as a contiguous array in single precision, or as whole numbers."""
    if tensor.is_cpu and tensor.dtype in _AS_THEY_ARE and tensor.is_contiguous():
        return tensor.numpy()
    plain = tensor.float() if tensor.is_floating_point() else tensor
    return plain.detach().cpu().contiguous().numpy()
