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


def without_caches(value: Any) -> Any:
    """The structure with None in the place of each cache."""
    if isinstance(value, Cache):
        return None
    if isinstance(value, Mapping):
        return {name: without_caches(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_caches(part) for part in value]
    return value


# The arguments that say which rows of a batch are padding.
_MASKS = ("attention_mask", "mask")


def real_rows(named: Mapping[str, Any]) -> Tensor | None:
    """Which positions [B, S] mean anything; None where all do.

    A row that may see nothing has no defined result, and one that is padding is never read.
    """
    for name in _MASKS:
        mask = named.get(name)
        if isinstance(mask, Mapping):
            mask = next(iter(mask.values()), None)
        if isinstance(mask, Tensor) and mask.ndim in (2, 4):
            real = mask != 0 if mask.ndim == 2 else _seeing(mask)
            return None if bool(real.all()) else real
    return None


def _seeing(mask: Tensor) -> Tensor:
    """The rows [B, S] of a mask [B, H, S, T] that may see anything."""
    seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    return seen.any(-1).any(1)


def real_places(path: str, tensor: Tensor, real: Tensor | None) -> Tensor | None:
    """Which values of an output are at real positions, to be broadcast; None where all are.

    Rows are [B, S, ...], those of a cache [B, H, S, d]. Floating-point values without a further
    axis are one vector a row of the batch, and have no positions.
    """
    if real is None or tensor.ndim < 2 or len(tensor) != len(real):
        return None
    if tensor.ndim == 2 and tensor.is_floating_point():
        return None
    axis = 2 if path.startswith("cache.") and tensor.ndim == 4 else 1
    rows = tensor.shape[axis]
    if not 0 < rows <= real.shape[1]:
        return None
    shape = [1] * tensor.ndim
    shape[0], shape[axis] = len(real), rows
    return real[:, -rows:].reshape(shape)


def only_real(path: str, tensor: Tensor, real: Tensor | None) -> Tensor:
    """The values at real positions, in a row each."""
    places = real_places(path, tensor, real)
    if places is None:
        return tensor
    if path.startswith("cache.") and tensor.ndim == 4:
        tensor, places = tensor.transpose(1, 2), places.transpose(1, 2)
    return tensor[places.reshape(tensor.shape[:2])]
