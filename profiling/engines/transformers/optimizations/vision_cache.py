"""A picture is encoded once: its embeddings are kept for later questions about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial

from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.optimization import Optimization
from profiling.engines.transformers.picture_cache import (
    CachedVision,
    PictureCache,
    without_language,
)
from profiling.parts.reduced import replace_parts
from profiling.records import DERIVED, Reading, reading

_SOURCE = "counted while every sample was answered once, the cache empty before"


class VisionCache(Optimization):
    """Starts empty at each pass over the samples, so that only what repeats in them is saved."""

    replaces_parts = True
    as_counted = False
    changes = frozenset()

    def __init__(self, *, kind: str, order: int, max_bytes: int) -> None:
        super().__init__(kind=kind, order=order)
        self.cache = PictureCache(max_bytes=max_bytes)

    def apply(self, loaded: LoadedModel) -> None:
        model = loaded.model
        family = model.family
        stand_ins = family.layout.stand_ins(model.dtype)
        vision = CachedVision(
            family=family,
            encoder=without_language(model.network, family),
            stand_in=stand_ins[family.layout.parts.vision],
            cache=self.cache,
        )
        replace_parts(model.network, {**stand_ins, family.layout.parts.vision: vision})
        loaded.absorb_projector()

    def begin_pass(self) -> None:
        self.cache.forget()

    def uncounted(self) -> AbstractContextManager[None]:
        return self.cache.uncounted()

    def answered(self) -> Iterator[Reading]:
        row = partial(reading, status=DERIVED, source=_SOURCE)
        yield row(
            metric="vision_cache_hits",
            value=self.cache.hits,
        )
        yield row(
            metric="vision_cache_lookups",
            value=self.cache.lookups,
        )
        yield row(
            metric="vision_cache_bytes",
            value=self.cache.num_bytes,
        )


OPTIMIZATION = VisionCache
