"""A batch of prompts as the network got it: which tokens are visual, and where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_MOST_PIXELS = 4096


class Prompt:
    """What methods may ask of a batch of prompts."""

    def __init__(self, *, inputs: Mapping[str, Any], image_token_id: int) -> None:
        self.inputs = inputs
        self.ids: Tensor = inputs["input_ids"]  # [B, S]
        self.visual = self.ids == image_token_id  # [B, S]
        mask = inputs.get("attention_mask")
        self.real = torch.ones_like(self.visual) if mask is None else mask.bool()

    def places(self, row: int) -> Tensor:
        """The columns of a row's visual tokens."""
        return self.visual[row].nonzero().flatten()

    def seed(self, row: int, number: int) -> int:
        """A seed that belongs to the sample, whatever else is in its batch."""
        digest = hashlib.blake2b(digest_size=6, salt=number.to_bytes(16, "little"))
        for values in (self.ids[row][self.real[row]], self._pixels(row)):
            digest.update(values.cpu().contiguous().numpy().tobytes())
        return int.from_bytes(digest.digest(), "little")

    def _pixels(self, row: int) -> Tensor:
        """Some of the pixels of a row, evenly placed."""
        pixels, counts = self.inputs["pixel_values"], self.visual.sum(dim=1)
        # Pictures or patches: every visual token stands for the same number of rows of pixels.
        lengths = (counts * len(pixels) // counts.sum()).tolist()
        mine = pixels.split(lengths)[row].flatten()
        return mine[:: max(1, len(mine) // _MOST_PIXELS)].float()
