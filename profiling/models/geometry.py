"""The shape of a generation: everything besides the configuration that its cost depends on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A prompt that loses tokens within the decoder."""

    layer: int  # the number of layers that see the whole prompt
    tokens: int  # of the prompt in the layers behind them
    # Visual tokens of each row behind them; None: each loses as many as its prompt does.
    visual: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A padded batch as the network gets it, and the number of tokens to generate."""

    sizes: tuple[tuple[int, int], ...]  # width and height of each picture or clip, in pixels
    prompt_tokens: int  # of the longest prompt of the batch, visual tokens included
    new_tokens: int
    cut: Cut | None = None
    rows: int | None = None  # prompts; None: one for each picture
    # Of each picture or clip, those that the network merges in time as one; None: one of each.
    frames: tuple[int, ...] | None = None

    def stages(self, layers: int) -> list[tuple[int, int]]:
        """Numbers of decoder layers with the number of prompt tokens in each of them."""
        if self.cut is None:
            return [(layers, self.prompt_tokens)]
        return [(self.cut.layer, self.prompt_tokens), (layers - self.cut.layer, self.cut.tokens)]

    def kept_visual(self, row: int, visual_tokens: int) -> int:
        """How many visual tokens of a row go on behind the cut."""
        if self.cut is None:
            return visual_tokens
        if self.cut.visual is None:
            return visual_tokens - (self.prompt_tokens - self.cut.tokens)
        return self.cut.visual[row]

    @property
    def batch_size(self) -> int:
        return len(self.sizes) if self.rows is None else self.rows

    @property
    def num_pictures(self) -> int:
        return len(self.sizes)

    @property
    def frame_counts(self) -> tuple[int, ...]:
        return self.frames or (1,) * len(self.sizes)

    def patches(self, side: int) -> list[int]:
        """The number of square patches with this side in each picture, all of its frames."""
        return [
            frames * (width // side) * (height // side)
            for frames, (width, height) in zip(self.frame_counts, self.sizes, strict=True)
        ]


def snap_side(side: int, multiple: int) -> int:
    """The positive multiple that is nearest to a side."""
    return max(1, round(side / multiple)) * multiple


def blank(*shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor with a shape and no values, to call a network that has no values."""
    return torch.empty(*shape, dtype=dtype, device="meta")
