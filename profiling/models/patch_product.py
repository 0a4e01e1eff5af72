"""A convolution over patches that do not overlap, as the matrix product that it equals."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class PatchProduct(nn.Module):
    """Shares the weights of a convolution whose stride is its kernel size.

    For tools that cannot take the convolution: tracing without values, export in bf16.
    """

    def __init__(self, *, convolution: nn.Module) -> None:
        super().__init__()
        source: Any = convolution
        self.weight: Tensor = source.weight
        self.bias: Tensor | None = source.bias
        self.kernel_size: tuple[int, ...] = source.kernel_size

    def forward(self, values: Tensor) -> Tensor:  # [B, C, *sides] -> [B, D, *grid]
        axes = len(self.kernel_size)
        blocks = values
        for axis in reversed(range(axes)):
            blocks = blocks.unflatten(2 + axis, (-1, self.kernel_size[axis]))
        grid, inner = range(2, 2 + 2 * axes, 2), range(3, 2 + 2 * axes, 2)
        rows = blocks.permute(0, *grid, 1, *inner).flatten(1 + axes)
        return nn.functional.linear(rows, self.weight.flatten(1), self.bias).movedim(-1, 1)
