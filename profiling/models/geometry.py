"""The shape of a generation: everything that its cost depends on besides the configuration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A batch as the network sees it, padding in, and how many tokens it is to add."""

    sizes: tuple[tuple[int, int], ...]  # width and height of each picture, in pixels
    prompt_tokens: int  # the longest prompt of the batch, visual tokens in
    new_tokens: int

    @property
    def batch_size(self) -> int:
        return len(self.sizes)

    def patches(self, side: int) -> list[int]:
        """How many square patches of that side each picture is cut into."""
        return [(width // side) * (height // side) for width, height in self.sizes]


def blank(*shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor that has a shape and nothing else, to call a network with that has no values."""
    return torch.empty(*shape, dtype=dtype, device="meta")
