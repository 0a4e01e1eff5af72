"""Rounding at random inside of a network: how far its results move when sums are made otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def disturbing(network: nn.Module, seed: int) -> Iterator[None]:
    """What innermost modules return is off by up to a step of its dtype, by its root mean square.

    That is Monte Carlo arithmetic, at the places where a network multiplies matrices.
    """
    generator = torch.Generator().manual_seed(seed)

    def disturb(_module: nn.Module, _args: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        noise = torch.rand(output.shape, generator=generator, dtype=torch.float64) * 2 - 1
        size = output.double().square().mean().sqrt() * torch.finfo(output.dtype).eps
        return (output.double() + size * noise.to(output.device)).to(output.dtype)

    inner = [module for module in network.modules() if not list(module.children())]
    handles = [module.register_forward_hook(disturb) for module in inner]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
