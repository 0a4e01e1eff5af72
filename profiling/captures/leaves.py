"""The tensors of a structure by path, and the rows of them that mean anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor of a structure; of a cache the keys and values of each layer that has some."""
    if isinstance(value, Cache):
        yield from leaves(contents(value), path)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from leaves(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield from leaves(part, f"{path}.{i}" if path else str(i))
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        yield path, value


def contents(cache: Cache) -> dict[Any, Any]:
    """What a cache holds: {layer: (keys, values)}, or two of these by the name of the half."""
    halves = {"self": "self_attention_cache", "cross": "cross_attention_cache"}
    if all(hasattr(cache, name) for name in halves.values()):
        return {half: contents(getattr(cache, name)) for half, name in halves.items()}
    return {
        number: (layer.keys, layer.values)
        for number, layer in enumerate(cache.layers)
        if isinstance(getattr(layer, "keys", None), Tensor) and layer.keys.numel()
    }
