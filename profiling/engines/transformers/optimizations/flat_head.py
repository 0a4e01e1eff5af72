"""The head's input with the strides of a tensor of its own, so that its product is one of matrices.

`generate` hands the head the last position, a slice whose strides are those of the whole prompt.
PyTorch does not fold such a slice into two dimensions: it takes the batched product, which in 16
bits on a CPU copies the whole transposed weight first.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.optimization import Optimization
from profiling.runtimes.offered import TEXT


class FlatHead(Optimization):
    changes = frozenset({TEXT})

    def apply(self, loaded: LoadedModel) -> None:
        (head,) = loaded.parts()["head"]
        head.register_forward_pre_hook(flatten)


def flatten(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    hidden, *others = args
    return (make_dense(hidden), *others)


def make_dense(hidden: Tensor) -> Tensor:
    """The same values with the strides of a contiguous tensor, also along dimensions of size one.

    `contiguous` leaves the strides of such dimensions as they are.
    """
    return hidden.reshape(-1).view(hidden.shape)


OPTIMIZATION = FlatHead
