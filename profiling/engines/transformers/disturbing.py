"""Noise on the outputs of a network's modules: how far an error of a known size grows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from profiling.models.grouped_linear import GroupedLinear


@contextmanager
def disturbed(network: nn.Module, size: float, seed: int = 0) -> Iterator[None]:
    """Add to each output of a module without inner ones noise of `size` times its own size.

    The noise is normal, and equal in every run with one seed. The size of an output is the root of
    its mean square along the last axis, since a sum is off by a share of its terms and not of what
    is left of them.
    """
    generators: dict[torch.device, torch.Generator] = {}

    def disturb(_module: nn.Module, _given: Any, output: Any) -> Any:
        first, *rest = output if isinstance(output, tuple) else (output,)
        if not isinstance(first, Tensor) or not first.is_floating_point() or not first.ndim:
            return output
        device = first.device
        drawn = generators.setdefault(device, torch.Generator(device).manual_seed(seed))
        # Squares of what float16 holds overflow in it.
        wide = first.float()
        noise = torch.randn(wide.shape, generator=drawn, device=device)
        off = wide + size * wide.square().mean(-1, keepdim=True).sqrt() * noise
        off = off.to(first.dtype)
        return (off, *rest) if isinstance(output, tuple) else off

    inner = [module for module in network.modules() if not any(module.children())]
    hooks = [module.register_forward_hook(disturb) for module in inner]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def longest_sum(network: nn.Module) -> int:
    """The largest number of inputs that a linear layer has."""
    kinds = (nn.Linear, GroupedLinear)
    layers = (module for module in network.modules() if isinstance(module, kinds))
    return max((layer.in_features for layer in layers), default=1)
