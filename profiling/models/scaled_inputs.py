"""Which layers read the same activations, and which module before them can absorb their scale.

Dividing what the module before gives by a scale for each channel, and multiplying the columns of
the layers by it, leaves the network's function as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ScaledInput:
    """Layers with one input, by their paths."""

    # A norm, or a linear layer.
    before: str
    layers: tuple[str, ...]
    # The channel of `before` that each input comes from; None: the one of the same number.
    channels: tuple[int, ...] | None = None
    # The input grows with this power of what `before` gives.
    power: int = 1

    @cached_property
    def shared(self) -> tuple[Tensor, Tensor] | None:
        """Channels that inputs come from, each once, and the place among them for each input."""
        if self.channels is None:
            return None
        return torch.tensor(self.channels).unique(return_inverse=True)

    def mean_by_channel(self, values: Tensor) -> Tensor:  # [inputs] -> [channels]
        """Means over the inputs that come from the same channel."""
        if self.shared is None:
            return values
        channels, places = self.shared
        total = torch.zeros(len(channels), dtype=values.dtype, device=values.device)
        places = places.to(values.device)
        return total.index_add(0, places, values) / places.bincount()

    def by_input(self, scales: Tensor) -> Tensor:  # [channels] -> [inputs]
        return scales if self.shared is None else scales[self.shared[1].to(scales.device)]

    @torch.no_grad()
    def absorb(self, network: nn.Module, scales: Tensor) -> None:
        """Divide what the module before gives, for each channel by its scale."""
        before: Any = network.get_submodule(self.before)
        divisors = scales.float() ** (1 / self.power)
        for tensor in (before.weight, getattr(before, "bias", None)):
            if tensor is not None:
                _divide(tensor, divisors, None if self.shared is None else self.shared[0])

    @torch.no_grad()
    def multiply(self, network: nn.Module, scales: Tensor) -> None:
        """Multiply the columns of the layers."""
        factors = self.by_input(scales).float()
        for path in self.layers:
            weight: Tensor = network.get_submodule(path).weight  # type: ignore[assignment]
            weight.copy_(weight.float() * factors)


def _divide(tensor: Tensor, divisors: Tensor, rows: Tensor | None) -> None:
    own = tensor if rows is None else tensor[rows.to(tensor.device)]
    scaled = own.float() / divisors.view(-1, *[1] * (tensor.ndim - 1))
    if rows is None:
        tensor.copy_(scaled)
    else:
        tensor[rows.to(tensor.device)] = scaled.to(tensor.dtype)


def repeated_heads(heads: int, kept: int, width: int) -> tuple[int, ...] | None:
    """The channel of the values that each input of the attention's output layer comes from.

    With fewer heads of keys and values than of queries, several heads read the same one.
    """
    if heads == kept:
        return None
    return tuple(
        head // (heads // kept) * width + channel
        for head in range(heads)
        for channel in range(width)
    )


def gated_layers(paths: Sequence[str], *, heads: int, kept: int, width: int) -> list[ScaledInput]:
    """Decoder layers as Llama has them: two norms, separate projections, a gated product.

    There are `heads` of queries, and `kept` of keys and values, each so wide.
    """
    values_of = repeated_heads(heads, kept, width)
    return [one for path in paths for one in _gated_layer(path, values_of)]


def _gated_layer(path: str, values_of: tuple[int, ...] | None) -> list[ScaledInput]:
    attention, inner = f"{path}.self_attn", f"{path}.mlp"
    read = tuple(f"{attention}.{name}_proj" for name in "qkv")
    return [
        ScaledInput(before=f"{path}.input_layernorm", layers=read),
        ScaledInput(
            before=f"{attention}.v_proj", layers=(f"{attention}.o_proj",), channels=values_of
        ),
        ScaledInput(
            before=f"{path}.post_attention_layernorm",
            layers=(f"{inner}.gate_proj", f"{inner}.up_proj"),
        ),
        ScaledInput(before=f"{inner}.up_proj", layers=(f"{inner}.down_proj",)),
    ]
