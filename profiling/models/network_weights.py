"""The weights of a network as nested arrays of NumPy, PyTorch or JAX, and what a config.json says.

Buffers that are in no checkpoint (the frequencies of rotary positions) are there too, so functions
need nothing besides weights and configuration. Tied weights stand under each of their names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from profiling.errors import Unsupported
from profiling.models.family import Family
from profiling.models.nested_weights import Nested, nest


def flat_weights(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their names, tied ones under each."""
    named = dict(network.named_parameters(remove_duplicate=False))
    return named | dict(network.named_buffers(remove_duplicate=False))


def nested_weights_of(network: nn.Module, library: str) -> Nested:
    """Everything that the network stores, as arrays of a library; what is tied is one array."""
    convert, made = converter(library), dict[int, Any]()
    return nest(
        {
            name: made[id(tensor)]
            if id(tensor) in made
            else made.setdefault(id(tensor), convert(tensor.detach()))
            for name, tensor in flat_weights(network).items()
        }
    )


def generation_settings(family: Family, network: Any) -> Any:
    """The settings of what generates: in some families the language model does so by itself."""
    language = network.get_submodule(family.layout.parts.language)
    return (language if hasattr(language, "generate") else network).generation_config


def converter(library: str) -> Callable[[Tensor], Any]:
    """What makes an array of the library from a tensor, without a copy where that is possible."""
    if library == "torch":
        return lambda tensor: tensor
    if library == "numpy":
        return _to_numpy
    return _to_jax


def _to_numpy(tensor: Tensor) -> Any:
    if tensor.dtype == torch.bfloat16:
        raise Unsupported("NumPy has no bfloat16")
    return tensor.cpu().numpy()


def _to_jax(tensor: Tensor) -> Any:
    import jax.numpy as jnp

    if tensor.dtype == torch.bfloat16:
        return jnp.asarray(tensor.cpu().view(torch.int16).numpy()).view(jnp.bfloat16)
    return jnp.asarray(tensor.cpu().numpy())
