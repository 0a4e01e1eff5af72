"""What a network holds in memory: its weights by part, and the keys and values of a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from profiling.models.storage import place_of, stored_tensors
from profiling.records import DERIVED, MEASURED, Reading, reading, unavailable

_AXES = 4  # rows, heads, tokens, width
_STATES = ("conv_states", "recurrent_states")  # of linear attention
# Where the library's quantized caches keep all but the newest tokens.
_QUANTIZED = ("_quantized_keys", "_quantized_values")


@dataclass(kw_only=True)
class CacheSize:
    """Bytes of keys and values that a generation holds at its end."""

    growing_bytes: Counter[int] = field(default_factory=Counter)  # by tokens, of all such layers
    fixed_bytes: int = 0
    sequences: int = 0

    @property
    def total_bytes(self) -> int:
        return sum(self.growing_bytes.values()) + self.fixed_bytes

    @property
    def bytes_per_token(self) -> float:
        """One more token of each sequence; layers may hold different numbers of them."""
        return sum(size / (self.sequences * tokens) for tokens, size in self.growing_bytes.items())


def read_cache(network: Any, run: Callable[[], None]) -> Iterator[Reading]:
    """What one more token of context costs, from the cache that one batch really built."""
    with watch_cache(network) as size:
        run()
    yield from cache_readings(size)


def cache_readings(size: CacheSize) -> Iterator[Reading]:
    """Bytes of keys and values in all, and of one more token in one row."""
    source = "bytes of the key and value tensors after one batch"
    if not size.growing_bytes:
        reason = "no module of this model returned a cache of keys and values"
        yield unavailable("kv_cache_bytes_per_token", reason)
        return
    row = partial(reading, source=source)
    yield row(metric="kv_cache_bytes_per_token", value=size.bytes_per_token, status=DERIVED)
    yield row(metric="kv_cache_bytes", value=size.total_bytes, status=MEASURED)


@contextmanager
def watch_cache(network: Any) -> Iterator[CacheSize]:
    """Keep the size of the last cache that any module of the network returns."""
    size = CacheSize()

    def look(module: Any, inputs: Any, output: Any) -> None:
        cache = getattr(output, "past_key_values", None)
        if cache is not None:
            _weigh(cache, output, size)

    handles = [module.register_forward_hook(look) for module in network.modules()]
    try:
        yield size
    finally:
        for handle in handles:
            handle.remove()


def _weigh(cache: Any, output: Any, size: CacheSize) -> None:
    growing = getattr(cache, "self_attention_cache", cache)
    fixed = getattr(cache, "cross_attention_cache", None)
    size.growing_bytes = Counter()
    layers = [layer for layer in growing.layers if hasattr(layer, "keys")]
    for layer in layers:
        size.growing_bytes[_tokens(layer)] += _layer_bytes(layer)
    # Keys and values of an encoder's states are made once and never grow, and so are the states of
    # linear attention, which has no keys.
    others = [layer for layer in growing.layers if not hasattr(layer, "keys")]
    made_once = [*others, *(fixed.layers if fixed is not None else ())]
    size.fixed_bytes = sum(map(_layer_bytes, made_once))
    if layers:
        size.sequences = _sequences(layers[0], output)


def _sequences(layer: Any, output: Any) -> int:
    if layer.keys.ndim == _AXES:
        return len(layer.keys)
    # All keys are quantized, in a shape of the library's own.
    states = getattr(output, "last_hidden_state", None)
    return len(output.logits if states is None else states)


def _tokens(layer: Any) -> int:
    # A cache of fixed length has room for more tokens than have been through; one that is
    # quantized has keys of the newest ones only.
    quantized = getattr(layer, _QUANTIZED[0], None)
    return int(layer.keys.shape[-2] if quantized is None else layer.get_seq_length())


def _layer_bytes(layer: Any) -> int:
    """Keys and values as they are stored."""
    names = ("keys", "values", *_QUANTIZED, *_STATES)
    return sum(_stored_bytes(getattr(layer, name, None)) for name in names)


def _stored_bytes(stored: Any) -> int:
    """The bytes of a tensor, of what a wrapping one holds, or of several with their scales."""
    if hasattr(stored, "__tensor_flatten__"):
        inner, _ = stored.__tensor_flatten__()
        return sum(_stored_bytes(getattr(stored, name)) for name in inner)
    if isinstance(stored, Tensor):
        return stored.nbytes
    if isinstance(stored, Mapping):
        return sum(map(_stored_bytes, stored.values()))
    return sum(map(_stored_bytes, stored)) if isinstance(stored, (tuple, list)) else 0


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
