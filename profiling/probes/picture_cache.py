"""How often a picture was found among those seen before, while every sample was answered once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from profiling.models.model import Model
from profiling.records import DERIVED, Reading

_SOURCE = "counted while every sample was answered once, the cache empty before"


def read_picture_cache(model: Model) -> Iterator[Reading]:
    """Nothing where pictures are not kept."""
    cache = model.picture_cache
    if cache is None:
        return
    reading = partial(Reading, phase="run", status=DERIVED, source=_SOURCE)
    yield reading(metric="vision_cache_hits", value=cache.hits, unit="1")
    yield reading(metric="vision_cache_lookups", value=cache.lookups, unit="1")
    yield reading(metric="vision_cache_bytes", value=cache.num_bytes, unit="bytes")
