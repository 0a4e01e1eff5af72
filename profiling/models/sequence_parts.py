"""What joins pictures and text before a decoder, as modules without weights that can be exported:
the fusion of embeddings, and the positions of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from profiling.models.text_parts import (
    BATCH,
    EMBEDDINGS,
    NEW,
    POSITIONS,
    Lengths,
    TextPart,
    padded_on_the_left,
)

FUSION, TEXT_POSITIONS, PICTURE_POSITIONS = "fusion", "rotary_text", "rotary_with_vision"
IDS, MASK, PICTURES, GRIDS = "input_ids", "attention_mask", "picture_embeds", "image_grid_thw"
DELTAS = "rope_deltas"


class Fusion(TextPart):
    """The embeddings of pictures, in order, in the places of the picture tokens."""

    axes: Mapping[str, Mapping[int, str]] = {
        IDS: {0: BATCH, 1: NEW},
        "text_embeds": {0: BATCH, 1: NEW},
        PICTURES: {0: "visual"},
    }
    outputs: Sequence[str] = (EMBEDDINGS,)

    def __init__(self, *, token: int, width: int) -> None:
        super().__init__()
        self.token, self.width = token, width

    def forward(self, input_ids: Tensor, text_embeds: Tensor, picture_embeds: Tensor) -> Tensor:
        is_picture = input_ids == self.token
        order = (is_picture.flatten().long().cumsum(0) - 1).clamp(min=0)
        placed = picture_embeds.index_select(0, order).reshape(text_embeds.shape)
        return torch.where(is_picture[..., None], placed, text_embeds)

    def example(self, lengths: Lengths, generator: torch.Generator) -> dict[str, Tensor]:
        ids, visual = _with_pictures(lengths, self.token, (1, _columns(lengths)))
        text = torch.randn(*ids.shape, self.width, generator=generator)
        pictures = torch.randn(visual, self.width, generator=generator)
        return {IDS: ids, "text_embeds": text, PICTURES: pictures}


class TextPositions(TextPart):
    """The positions of tokens by how many come before them, padding not counted.

    With more than one axis the positions of a token of text are equal on all of them, and shifted
    by what the pictures before it took.
    """

    outputs: Sequence[str] = (POSITIONS,)

    def __init__(self, *, axes: int) -> None:
        super().__init__()
        self.position_axes = axes
        self.axes = {MASK: {0: BATCH, 1: "total"}}
        if axes > 1:
            self.axes |= {DELTAS: {0: BATCH}}

    def forward(self, attention_mask: Tensor, *deltas: Tensor) -> Tensor:
        counted = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        if self.position_axes == 1:
            return counted
        return (counted + deltas[0])[None].expand(self.position_axes, -1, -1)

    def example(self, lengths: Lengths, generator: torch.Generator) -> dict[str, Tensor]:
        given = {MASK: padded_on_the_left(lengths.batch, lengths.past + lengths.new)}
        if self.position_axes > 1:
            given[DELTAS] = torch.randint(-9, 0, (lengths.batch, 1), generator=generator)
        return given


class PicturePositions(TextPart):
    """Positions on three axes: a picture's tokens have their row and column, text goes on behind.

    A picture takes as many positions as its longer side has tokens.
    """

    axes: Mapping[str, Mapping[int, str]] = {
        IDS: {0: BATCH, 1: NEW},
        MASK: {0: BATCH, 1: NEW},
        GRIDS: {0: "pictures"},
    }
    outputs: Sequence[str] = (POSITIONS, DELTAS)

    def __init__(self, *, token: int, merge: int) -> None:
        super().__init__()
        self.token, self.merge = token, merge

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, image_grid_thw: Tensor
    ) -> tuple[Tensor, Tensor]:
        frames = image_grid_thw[:, 0]
        rows, columns = (image_grid_thw[:, axis] // self.merge for axis in (1, 2))
        ends = (frames * rows * columns).cumsum(0)
        is_picture = (input_ids == self.token).long()
        # Picture tokens of the batch in order, and the picture that each belongs to.
        order = (is_picture.flatten().cumsum(0) - 1).clamp(min=0)
        picture = (order[:, None] >= ends[None, :]).long().sum(-1).clamp(max=ends.shape[0] - 1)
        height, width = rows[picture], columns[picture]
        count = frames[picture] * height * width
        place = (order - (ends[picture] - count)).reshape(input_ids.shape)
        height, width, count = (v.reshape(input_ids.shape) for v in (height, width, count))
        taken = torch.maximum(torch.maximum(height, width), frames[picture].reshape(height.shape))
        # A picture's positions are taken by its last token.
        advance = torch.where(place == count - 1, taken, torch.zeros_like(taken))
        advance = torch.where(is_picture == 1, advance, attention_mask)
        start = advance.cumsum(-1) - advance
        inside = torch.stack([place // (height * width), place // width % height, place % width])
        positions = (start[None] + inside * is_picture[None]) * attention_mask[None]
        deltas = advance.sum(-1, keepdim=True) - attention_mask.sum(-1, keepdim=True)
        return positions, deltas

    def example(self, lengths: Lengths, generator: torch.Generator) -> dict[str, Tensor]:
        rows = 2 if lengths.new > 8 else 1
        grid = (rows, max(1, _columns(lengths) // rows))
        ids, _ = _with_pictures(lengths, self.token, grid)
        sides = [1, grid[0] * self.merge, grid[1] * self.merge]
        mask = padded_on_the_left(lengths.batch, lengths.new)
        return {IDS: ids, MASK: mask, GRIDS: torch.tensor([sides] * lengths.batch)}


def _columns(lengths: Lengths) -> int:
    """The tokens of a picture that fit between the padding and the last token."""
    return max(1, lengths.new - lengths.batch)


def _with_pictures(lengths: Lengths, token: int, grid: tuple[int, int]) -> tuple[Tensor, int]:
    """Ids with one picture in each row, before the last token where there is more than one."""
    count = grid[0] * grid[1]
    other = 0 if token else 1
    ids = torch.full((lengths.batch, lengths.new), other)
    stop = max(count, lengths.new - 1)
    ids[:, stop - count : stop] = token
    return ids, count * lengths.batch
