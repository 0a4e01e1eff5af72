"""The tensors that a network is stored in, those beside quantized weights among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def stored_tensors(network: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and the scales that quantized layers keep as neither."""
    yield from network.parameters()
    yield from network.buffers()
    for module in network.modules():
        yield from scales_of(module)


def scales_of(module: nn.Module) -> Iterator[Tensor]:
    """What a quantized layer multiplies its stored numbers with."""
    weight: Any = module._parameters.get("weight")
    # Before the first product they are the weight's, afterwards the layer's.
    rows = getattr(weight, "SCB", None)
    if rows is None:
        rows = getattr(getattr(module, "state", None), "SCB", None)
    if rows is not None:
        yield rows
    state = getattr(weight, "quant_state", None)
    while state is not None:
        yield state.absmax
        state = getattr(state, "state2", None)
