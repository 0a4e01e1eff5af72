"""Visual tokens spread evenly over the picture: the control without any knowledge of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from profiling.engines.transformers.token_reduction.method import Method
from profiling.engines.transformers.token_reduction.prompt import Prompt
from profiling.models.family import Family

Sizes = tuple[tuple[int, int], ...]


class Uniform(Method):
    """Each next one is the farthest from all chosen, in both directions of the picture."""

    def watch(self, network: Any, family: Family) -> None:
        self._processing = family.processing

    def start(self, prompt: Prompt) -> None:
        side = self._processing.multiple
        sizes = self._processing.picture_sizes(prompt.inputs)
        self._grids = [(height // side, width // side) for width, height in sizes]

    def choose(self, prompt: Prompt, row: int, tokens: Tensor, count: int) -> Tensor:
        grids = take_grids(self._grids, prompt.visual.sum(dim=1).tolist(), row)
        return tokens.new_tensor(spread(grids, count), dtype=torch.long)


METHOD = Uniform


def take_grids(grids: Sequence[tuple[int, int]], lengths: Sequence[int], row: int) -> Sizes:
    """The pictures of a row, by rows and columns of visual tokens."""
    left = list(grids)
    for length in lengths[: row + 1]:
        mine: list[tuple[int, int]] = []
        while sum(height * width for height, width in mine) < length:
            mine.append(left.pop(0))
        assert sum(height * width for height, width in mine) == length
    return tuple(mine)


@cache
def spread(grids: Sizes, count: int) -> tuple[int, ...]:
    """Places in one or several pictures, sorted; those of other pictures are far away."""
    apart = 2 * max(max(grid) for grid in grids)
    points = torch.tensor(
        [
            (number * apart, y, x)
            for number, (height, width) in enumerate(grids)
            for y in range(height)
            for x in range(width)
        ],
        dtype=torch.float32,
    )
    first = int((points - points.mean(dim=0)).square().sum(dim=1).argmin())
    chosen, nearest = [first], (points - points[first]).square().sum(dim=1)
    for _ in range(count - 1):
        # What is chosen is at no distance from itself, and so is never chosen again.
        chosen.append(int(nearest.argmax()))
        nearest = nearest.minimum((points - points[chosen[-1]]).square().sum(dim=1))
    return tuple(sorted(chosen))
