"""How far the outputs of saved parts are from the network, at sizes not used for the export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from profiling.graphs.check import LIMITS, distance, in_single_precision
from profiling.graphs.feeds import check_sizes, feeds_of, noise
from profiling.graphs.part_folder import VISION_ENCODER
from profiling.graphs.text_graphs import CHECKED, compare_text
from profiling.models.model import Model
from profiling.models.recipe import picture_recipe
from profiling.models.text_parts import Lengths
from profiling.partition.converters.converter import Source
from profiling.partition.fixed_sizes import COMMON, picture_sizes
from profiling.partition.pipeline import Part
from profiling.partition.saved_part import fits, sizes_of


class ConversionFailed(RuntimeError):
    """A converted part does not match the network; nothing of it was kept."""


def check_part(
    model: Model, source: Source, part: Part, told: Mapping[str, Any], *, side: int
) -> list[dict[str, Any]]:
    """The errors of a saved part; raises where one is too large."""
    if source.name == VISION_ENCODER:
        found = _check_vision(model, part, told, side)
    else:
        found = compare_text(source.module, part, _takeable(source, told))
    for one in found:
        if not one["relative_l2"] <= LIMITS[torch.float32]:
            raise ConversionFailed(
                f"{source.name} has a relative L2 error of {one['relative_l2']:.2g} to the network,"
                f" allowed is {LIMITS[torch.float32]:g}: nothing was kept"
            )
    return found


def _takeable(source: Source, told: Mapping[str, Any]) -> list[Lengths]:
    """The lengths that there are programs for."""
    if not _is_fixed(told):
        return list(CHECKED)
    alone = dict.fromkeys(
        Lengths(batch=1, new=new, past=one.past, encoded=one.encoded)
        for one in CHECKED
        for new in (one.new, 1)
    )
    shapes = [value["shape"] for value in told["inputs"]]
    found = []
    for lengths in alone:
        feeds = source.module.example(lengths, torch.Generator().manual_seed(0))
        asked = sizes_of(shapes, [feeds[value["name"]].numpy() for value in told["inputs"]])
        if any(fits(asked, one["sizes"]) for one in told["programs"]):
            found.append(lengths)
    return found


def _is_fixed(told: Mapping[str, Any]) -> bool:
    return "sizes" in told["programs"][0]


def _check_vision(
    model: Model, part: Part, told: Mapping[str, Any], side: int
) -> list[dict[str, Any]]:
    family = model.family
    pictures: Sequence[list[tuple[int, int]]] = check_sizes(family)
    if _is_fixed(told):
        pictures = [[size] for size in picture_sizes(picture_recipe(family, side), COMMON)]
    rank = len(part.inputs["pixel_values"])
    found = []
    with torch.inference_mode(), in_single_precision(model):
        for seed, sizes in enumerate(pictures, start=1):
            inputs = noise(family, sizes, seed=seed, device=model.device)
            expected = family.layout.embed(model.network, inputs)
            feeds = {name: value.cpu() for name, value in feeds_of(family, inputs).items()}
            pixels = feeds["pixel_values"]
            feeds["pixel_values"] = pixels.flatten(0, pixels.dim() - rank)
            (made,) = part.run({name: feeds[name].numpy() for name in part.inputs})
            found.append({"sizes": sizes, **distance(torch.tensor(made), expected)})
    return found
