"""The tensors that a network is stored in, including the scales of quantized weights."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import is_traceable_wrapper_subclass

if TYPE_CHECKING:
    from torch import Tensor, nn


def stored_tensors(network: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and the scales that quantized layers register as neither."""
    for tensor in chain(network.parameters(), network.buffers()):
        yield from tensors_of(tensor)
    for module in network.modules():
        yield from scales_of(module)


def place_of(tensor: Any) -> int:
    """Equal for tensors that share their memory; a tensor without any is told by itself."""
    return tensor.data_ptr() or id(tensor)


def tensors_of(tensor: Any) -> Iterator[Tensor]:
    """The tensor itself, or the tensors inside a wrapper such as torchao's."""
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    names, _ = tensor.__tensor_flatten__()
    for name in names:
        yield from tensors_of(getattr(tensor, name))


def holds_quantized(network: nn.Module) -> bool:
    """Whether a module or one inside of it has a weight whose values are codes."""
    weights = (module._parameters.get("weight") for module in network.modules())
    return any(
        not weight.is_floating_point() or is_traceable_wrapper_subclass(weight)
        for weight in weights
        if weight is not None
    )


def scales_of(module: nn.Module) -> Iterator[Tensor]:
    """The scales that a quantized layer multiplies its stored integers with."""
    weight: Any = module._parameters.get("weight")
    # Before the first forward they belong to the weight, afterwards to the layer.
    rows = getattr(weight, "SCB", None)
    if rows is None:
        rows = getattr(getattr(module, "state", None), "SCB", None)
    if rows is not None:
        yield rows
    state = getattr(weight, "quant_state", None)
    while state is not None:
        yield state.absmax
        state = getattr(state, "state2", None)
