"""Inputs of a vision graph: noise of given sizes, and what a family computes outside of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from profiling.models.family import Family

# Width and height of each picture, in multiples of the family's step. No length is 1, which an
# export would treat as constant.
_EXPORT_SIDES = ((6, 4), (3, 5))
# Not used for the export: wide, mixed shapes, one large square, and the smallest.
_CHECK_SIDES = (((15, 3),), ((7, 5), (4, 6), (7, 5)), ((11, 11),), ((2, 2),))


def export_sizes(family: Family) -> list[tuple[int, int]]:
    return _sizes(family, _EXPORT_SIDES)


def check_sizes(family: Family) -> list[list[tuple[int, int]]]:
    return [_sizes(family, sides) for sides in _CHECK_SIDES]


def _sizes(family: Family, sides: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pictures of several sizes at once where a family takes them, else as many of one size."""
    taken = sides if family.processing.keeps_aspect_ratio else [sides[0]] * len(sides)
    return [
        (width * family.processing.multiple, height * family.processing.multiple)
        for width, height in taken
    ]


def noise(
    family: Family, sizes: Sequence[tuple[int, int]], *, seed: int, device: torch.device
) -> dict[str, Tensor]:
    """The network's inputs for noise pictures."""
    inputs = family.processing.noise_inputs(sizes, torch.Generator().manual_seed(seed))
    return {name: value.to(device) for name, value in inputs.items()}


def feeds_of(family: Family, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All inputs of the graph for these inputs of the network."""
    pixels = inputs["pixel_values"]
    extras = family.layout.tower_inputs(family.layout.vision_arguments(inputs))
    return {"pixel_values": pixels, **{name: v.to(pixels.device) for name, v in extras.items()}}
