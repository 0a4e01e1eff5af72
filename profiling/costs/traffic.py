"""The least bytes that each phase has to move: its weights once per forward, and the cache.

Activations are left out, since a good kernel keeps them in cache. Divided by a device's bandwidth
this is a lower bound of a phase's time, not an expected time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profiling.costs.twin import Costs
from profiling.models.grouped_linear import GroupedLinear
from profiling.models.storage import scales_of, tensors_of


def weight_sizes(network: Any) -> dict[str, int]:
    """Stored bytes of each parameter, by its first name; of quantized ones with their scales."""
    sizes = {
        name: sum(tensor.nbytes for tensor in tensors_of(parameter))
        for name, parameter in network.named_parameters()
    }
    for name, module in network.named_modules():
        scales = sum(tensor.nbytes for tensor in scales_of(module))
        if scales:
            sizes[f"{name}.weight"] += scales
        if isinstance(module, GroupedLinear):
            sizes[f"{name}.weight"] = module.stored_bytes()
    return sizes


def moved_bytes(
    costs: Costs, sizes: Mapping[str, int], *, cache_element_bytes: float
) -> dict[str, int | None]:
    """Bytes by phase; None if there is no such phase or the size of its weights is unknown."""
    vision = _weights(costs.vision.weights, sizes)
    projector = _weights(costs.projector.weights, sizes) if costs.projector else None
    prefill = _add(
        _weights(costs.prefill.weights, sizes), int(_filled(costs) * cache_element_bytes)
    )
    return {
        "vision": vision,
        "projector": projector,
        "prefill": prefill,
        "decode": _decode(costs, sizes, cache_element_bytes),
    }


def _weights(names: frozenset[str], sizes: Mapping[str, int]) -> int | None:
    # A replaced part has weights with other names.
    return sum(sizes[name] for name in names) if names <= sizes.keys() else None


def _add(first: int | None, second: int) -> int | None:
    return None if first is None else first + second


def _filled(costs: Costs) -> int:
    """The number of cache elements that prefill writes."""
    geometry, cache = costs.geometry, costs.cache
    encoded = cache.encoded_elements * geometry.prompt_tokens
    return geometry.batch_size * (cache.decoded(geometry, 1) + encoded)


def _decode(costs: Costs, sizes: Mapping[str, int], cache_element_bytes: float) -> int | None:
    geometry, cache = costs.geometry, costs.cache
    steps = range(1, geometry.new_tokens)
    weights = _weights(costs.steps[1].weights, sizes) if steps else None
    if weights is None:
        return None
    encoded = cache.encoded_elements * geometry.prompt_tokens
    # A step reads the cache of earlier steps and adds one token.
    kept = sum(cache.decoded(geometry, step) + cache.elements + encoded for step in steps)
    return len(steps) * weights + int(geometry.batch_size * kept * cache_element_bytes)
