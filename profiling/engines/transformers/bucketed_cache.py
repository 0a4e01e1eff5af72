"""Keys and values with room for more tokens than there are, for code that is compiled by shape.

Tokens stand at the end of the room, so that distances between them are what they would be without
it. What stands before them is hidden by the bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from profiling.engines.transformers.runtime_cache import LOWEST, Array, RuntimeCache
from profiling.models.text_parts import BIAS, EMBEDDINGS, POSITIONS, CacheShape
from profiling.runtimes.runtime import Buckets


class BucketedCache(RuntimeCache):
    """Keys and values whose room is a multiple of the caches' bucket; it grows where it is full."""

    room: int

    def __init__(
        self, *, shape: CacheShape, seen: Array, cross: Sequence[Array], buckets: Buckets
    ) -> None:
        super().__init__(shape=shape, seen=seen, cross=cross)
        self.buckets = buckets
        self.room = 0

    def take(self, library: Any, length: int) -> None:
        super().take(library, length)
        self._grow(length)

    def arrange(self, feeds: dict[str, Array], new: int) -> dict[str, Array]:
        if self.length == 0 and new > 1:
            return self._arrange_prompt(feeds, new)
        if self.length + new > self.room:
            self._grow(self.length + new)
        full = numpy.full((len(self.seen), 1, new, self.room + new), LOWEST, numpy.float32)
        full[..., self.room - self.length :] = feeds[BIAS]
        return {**feeds, BIAS: full}

    def _arrange_prompt(self, feeds: dict[str, Array], new: int) -> dict[str, Array]:
        """A prompt padded on the left; nothing is in the cache yet."""
        length = round_up(new, self.buckets.prompts)
        self.room = round_up(length + 1, self.buckets.caches)
        arranged = {
            **feeds,
            EMBEDDINGS: pad_left(feeds[EMBEDDINGS], 1, length),
            BIAS: pad_left(pad_left(feeds[BIAS], 2, length, LOWEST), 3, length, LOWEST),
        }
        if POSITIONS in feeds:
            arranged[POSITIONS] = pad_left(feeds[POSITIONS], -1, length)
        return arranged

    def _grow(self, length: int) -> None:
        self.room = round_up(length, self.buckets.caches)
        self.arrays = [pad_left(numpy.asarray(each), 2, self.room) for each in self.arrays]


def round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def pad_left(array: Array, axis: int, length: int, value: Any = 0) -> Array:
    """An array with so many places on an axis, the new ones before the others."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (length - array.shape[axis], 0)
    return numpy.pad(array, widths, constant_values=value)
