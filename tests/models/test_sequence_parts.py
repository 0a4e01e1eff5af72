"""Fusion and positions as modules without loops, beside what the library computes."""

from __future__ import annotations

import pytest
import torch

from profiling.models.sequence_parts import Fusion, PicturePositions, TextPositions
from profiling.models.text_parts import Lengths
from tests.tiny_models import load

TOKEN = 9
# Rows of pictures as (rows, columns) of tokens between runs of text; rows are padded on the left.
CASES = (
    [[2, (1, 1), 3]],
    [[1, (3, 2), 4, (2, 5), 1]],
    [[2, (4, 4), 2], [1, (1, 7), 1]],
    [[5], [2, (2, 2), 1, (6, 1), 2]],
    [[1, (5, 3)], [3, (2, 3), 1]],
)


def write(case: list[list[object]], merge: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask and grids of a batch."""
    rows, grids = [], []
    for row in case:
        ids: list[int] = []
        for part in row:
            if isinstance(part, tuple):
                ids += [TOKEN] * (part[0] * part[1])
                grids.append([1, part[0] * merge, part[1] * merge])
            else:
                ids += [3] * int(str(part))
        rows.append(ids)
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return ids, mask, torch.tensor(grids)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_positions_are_those_of_the_library(case: list[list[object]]) -> None:
    network = load("qwen25vl").network.model
    merge = int(network.config.vision_config.spatial_merge_size)
    ids, mask, grids = write(case, merge)
    right, deltas = network.get_rope_index(
        ids, mm_token_type_ids=(ids == TOKEN).int(), image_grid_thw=grids, attention_mask=mask
    )
    found, shifts = PicturePositions(token=TOKEN, merge=merge)(ids, mask, grids)
    assert torch.equal(found * mask, right * mask)
    assert shifts.flatten().tolist() == deltas.flatten().tolist()
    longer = torch.nn.functional.pad(mask, (0, 1), value=1)
    after = TextPositions(axes=3)(longer, shifts)[..., -1]
    assert after.tolist() == [(right.amax(dim=(0, 2)) + 1).tolist()] * 3


def test_text_is_counted_without_padding() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    assert TextPositions(axes=1)(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]


def test_pictures_are_put_in_order() -> None:
    ids = torch.tensor([[TOKEN, 1, TOKEN], [2, 2, TOKEN]])
    text, pictures = torch.zeros(2, 3, 1), torch.tensor([[5.0], [6.0], [7.0]])
    fused = Fusion(token=TOKEN, width=1)(ids, text, pictures)
    assert fused.flatten().tolist() == [5, 0, 6, 0, 0, 7]


def test_examples_have_as_many_embeddings_as_places() -> None:
    lengths = Lengths(batch=3, new=12, past=0, encoded=1)
    given = Fusion(token=TOKEN, width=2).example(lengths, torch.Generator())
    assert int((given["input_ids"] == TOKEN).sum()) == len(given["picture_embeds"])
    part = PicturePositions(token=TOKEN, merge=2)
    example = part.example(lengths, torch.Generator())
    sides = example["image_grid_thw"].prod(-1) // 4
    assert int((example["input_ids"] == TOKEN).sum()) == int(sides.sum())
