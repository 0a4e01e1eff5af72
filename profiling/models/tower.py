"""A vision part and its projector as a chain of blocks, made of operations that can be exported."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

# The slope of the cubic that the library's interpolation uses.
_CUBIC = -0.75


class VisionTower(nn.Module):
    """Turns pictures into the embeddings that the language model reads.

    Whatever depends on the sizes of the pictures is an input or computed from the shapes of
    tensors, so that one graph serves all sizes.
    """

    # The dimensions of each input that vary, with names; the first input holds the pictures.
    axes: ClassVar[Mapping[str, Mapping[int, str]]]
    hidden_axes: ClassVar[Mapping[int, str]]

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    @property
    def extras(self) -> tuple[str, ...]:
        """The names of the inputs besides the pictures; every block takes all of them."""
        return tuple(self.axes)[1:]

    @abstractmethod
    def embed(self, pixels: Tensor, *extras: Tensor) -> Tensor:
        """Everything before the first block."""

    @abstractmethod
    def run_block(self, index: int, hidden: Tensor, *extras: Tensor) -> Tensor: ...

    @abstractmethod
    def finish(self, hidden: Tensor) -> Tensor:
        """Everything after the last block; the projector comes last."""

    def forward(self, pixels: Tensor, *extras: Tensor) -> Tensor:
        hidden = self.embed(pixels, *extras)
        for index in range(len(self.blocks)):
            hidden = self.run_block(index, hidden, *extras)
        return self.finish(hidden)


@contextmanager
def written_out_attention(module: nn.Module) -> Iterator[None]:
    """Use attention made of products and a softmax in single precision while exporting."""
    configs: dict[int, Any] = {
        id(m.config): m.config for m in module.modules() if hasattr(m, "config")
    }
    before = [(config, config._attn_implementation) for config in configs.values()]
    for config, _ in before:
        config._attn_implementation = "eager"
    try:
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name


def resized_positions(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Resize learned positions [G*G, D] of a square grid to another grid, [rows*columns, D].

    This is the library's bicubic interpolation as two matrix products, because interpolation
    operators differ between runtimes. For an unchanged grid both matrices are the identity.
    """
    grid = round(len(positions) ** 0.5)
    width = positions.shape[-1]
    values = positions.float().reshape(grid, grid * width)
    stretched = (_cubic_weights(rows, grid, positions) @ values).reshape(rows, grid, width)
    resized = _cubic_weights(columns, grid, positions) @ stretched
    return resized.reshape(rows * columns, width)


def _cubic_weights(length: int, grid: int, like: Tensor) -> Tensor:  # [length, grid]
    points = torch.arange(length, device=like.device, dtype=torch.float32)
    # The length has to be a tensor: an exported graph would fix a plain number.
    scale = grid / torch.ones_like(points).sum()
    source = (points + 0.5) * scale - 0.5
    below = source.floor()
    distance = source - below
    weights: Any = 0
    for step, weight in zip((-1, 0, 1, 2), _cubic(distance), strict=True):
        neighbour = (below + step).clamp(0, grid - 1)[:, None]
        here = neighbour == torch.arange(grid, device=like.device, dtype=torch.float32)
        weights = weights + torch.where(here, weight[:, None], torch.zeros_like(weight)[:, None])
    return weights  # type: ignore[no-any-return]


def _cubic(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The weights of the four neighbours of a point at distance `t` after the second of them."""

    def near(x: Tensor) -> Tensor:
        return ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1

    def far(x: Tensor) -> Tensor:
        return ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC

    return far(t + 1), near(t), near(1 - t), far(2 - t)


class PatchTower(VisionTower):
    """A transformer over square patches with a class token and learned positions."""

    axes: ClassVar[Mapping[str, Mapping[int, str]]] = {
        "pixel_values": {0: "pictures", 2: "height", 3: "width"}
    }
    hidden_axes: ClassVar[Mapping[int, str]] = {0: "pictures", 1: "tokens"}

    def __init__(self, blocks: Sequence[nn.Module], patches: nn.Module) -> None:
        super().__init__(blocks)
        self.patches: Any = patches

    @abstractmethod
    def class_token(self) -> Tensor:  # [D]
        ...

    @abstractmethod
    def positions(self) -> Tensor:  # [1 + G*G, D]
        """The learned positions; the first one is the class token's."""

    def before_blocks(self, hidden: Tensor) -> Tensor:
        return hidden

    def embed(self, pixels: Tensor, *extras: Tensor) -> Tensor:
        patches = self.patches(pixels.to(self.patches.weight.dtype))  # [B, D, rows, columns]
        rows, columns = patches.shape[2:]
        positions = self.positions()
        resized = resized_positions(positions[1:], rows, columns).to(patches.dtype)
        tokens = patches.flatten(2).transpose(1, 2) + resized
        first = (self.class_token() + positions[0]).to(patches.dtype)
        first = first.expand(tokens.shape[0], 1, -1)
        return self.before_blocks(torch.cat([first, tokens], dim=1))
