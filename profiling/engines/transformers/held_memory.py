"""What a network holds in memory: its weights by part, and the keys and values of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from profiling.models.storage import place_of, stored_tensors
from profiling.records import DERIVED, MEASURED, Reading, reading, unavailable


@dataclass(kw_only=True)
class CacheSize:
    """Bytes of keys and values that a generation holds at its end."""

    growing_bytes: int = 0
    fixed_bytes: int = 0
    sequences: int = 0
    tokens: int = 0

    @property
    def bytes_per_token(self) -> float:
        return self.growing_bytes / (self.sequences * self.tokens)


def read_cache(network: Any, run: Callable[[], None]) -> Iterator[Reading]:
    """What one more token of context costs, from the cache that one batch really built."""
    with watch_cache(network) as size:
        run()
    yield from cache_readings(size)


def cache_readings(size: CacheSize) -> Iterator[Reading]:
    """Bytes of keys and values in all, and of one more token in one row."""
    source = "bytes of the key and value tensors after one batch"
    if not size.tokens:
        reason = "no module of this model returned a cache of keys and values"
        yield unavailable("kv_cache_bytes_per_token", reason)
        return
    row = partial(reading, source=source)
    yield row(metric="kv_cache_bytes_per_token", value=size.bytes_per_token, status=DERIVED)
    yield row(metric="kv_cache_bytes", value=size.growing_bytes + size.fixed_bytes, status=MEASURED)


@contextmanager
def watch_cache(network: Any) -> Iterator[CacheSize]:
    """Keep the size of the last cache that any module of the network returns."""
    size = CacheSize()

    def look(module: Any, inputs: Any, output: Any) -> None:
        cache = getattr(output, "past_key_values", None)
        if cache is not None:
            _weigh(cache, size)

    handles = [module.register_forward_hook(look) for module in network.modules()]
    try:
        yield size
    finally:
        for handle in handles:
            handle.remove()


def _weigh(cache: Any, size: CacheSize) -> None:
    growing = getattr(cache, "self_attention_cache", cache)
    fixed = getattr(cache, "cross_attention_cache", None)
    size.growing_bytes = _cache_bytes(growing)
    # Keys and values of an encoder's states are made once and never grow.
    size.fixed_bytes = _cache_bytes(fixed) if fixed is not None else 0
    # A cache of fixed length has room for more tokens than have been through.
    size.tokens = int(growing.layers[0].keys.shape[-2])
    size.sequences = int(growing.layers[0].keys.shape[0])


def _cache_bytes(cache: Any) -> int:
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def read_weights(network: Any, parts: Mapping[str, Sequence[Any]]) -> Iterator[Reading]:
    """Bytes of parameters and buffers by part; what two parts share belongs to the first."""
    counted: set[int] = set()
    # A projector may lie inside of the vision part, and everything inside of the network.
    order = ["projector", *(name for name in parts if name != "projector")]
    for name in order:
        yield _weights(f"weights_{name}_bytes", parts[name], counted)
    yield _weights("weights_other_bytes", [network], counted)


def _weights(metric: str, modules: Sequence[Any], counted: set[int]) -> Reading:
    tensors = [tensor for module in modules for tensor in stored_tensors(module)]
    fresh = {place_of(tensor): tensor.nbytes for tensor in tensors}
    value = sum(size for place, size in fresh.items() if place not in counted)
    counted.update(fresh)
    return reading(
        metric=metric,
        value=value,
        status=DERIVED,
        source="parameters and buffers of the part, shared ones once",
    )
