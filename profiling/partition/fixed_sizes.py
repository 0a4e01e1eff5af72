"""The sizes that programs of a fixed shape are written for: one question about one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
from PIL import Image

from profiling.graphs.part_folder import VISION_ENCODER
from profiling.models.text_parts import ENCODED, ENCODER, NEW, PAST
from profiling.partition.saved_part import Sizes, size_in, sizes_of
from profiling.partition.vision_inference import make_feeds, resize

# Beside the tokens of a picture there is room for so many of text; lengths are multiples of a step.
_TEXT_ROOM, _STEP = 96, 64
_TOTAL, _VISUAL, _PICTURES = "total", "visual", "pictures"
# So finely are aspect ratios tried where every size is wanted.
_RATIOS = 20_001
# Width over height of pictures, square ones first.
_ASPECTS = (1, 1.5, 0.25, 2 / 3, 4 / 3, 3 / 4, 16 / 9, 9 / 16, 2, 0.5, 4, 8, 1 / 8, 16, 1 / 16)


def choose_sizes(
    recipe: dict[str, Any], parts: Mapping[str, Any], *, prompts: Sequence[int], new_tokens: int
) -> dict[str, list[Sizes]]:
    """For each part the sizes that it gets programs for.

    `prompts` are lengths of prompts in tokens; with none there is one, which holds a picture and a
    question. There is room for so many new tokens.
    """
    vision = vision_sizes(recipe, parts[VISION_ENCODER])
    visual = size_in(parts[VISION_ENCODER]["outputs"][0]["shape"][0], vision)
    lengths = sorted(set(prompts)) or [_round_up(visual + _TEXT_ROOM)]
    before = 1 if ENCODER in parts else lengths[-1]
    room = _round_up(before + new_tokens)
    given: Sizes = {"batch": 1, _PICTURES: 1, _VISUAL: visual}
    chosen: dict[str, list[Sizes]] = {VISION_ENCODER: [vision]}
    for name, told in parts.items():
        if name != VISION_ENCODER:
            axes = {a for value in told["inputs"] for a in value["shape"] if isinstance(a, str)}
            listed = [{**given, **one} for one in _list_lengths(axes, lengths, room)]
            chosen[name] = [
                {axis: size for axis, size in one.items() if axis in axes} for one in listed
            ]
    return chosen


def _list_lengths(axes: set[str], prompts: Sequence[int], room: int) -> list[Sizes]:
    """The lengths of programs whose inputs have these axes."""
    step = {NEW: 1, PAST: room, _TOTAL: room + 1}
    if PAST in axes and ENCODED in axes:
        return [{**step, ENCODED: length} for length in prompts]
    if PAST in axes:
        return [*({NEW: n, PAST: 0, _TOTAL: n} for n in prompts), step]
    if _TOTAL in axes:
        return [{_TOTAL: length} for length in (*prompts, room + 1)]
    if ENCODED in axes:
        return [{ENCODED: length} for length in prompts]
    if {_VISUAL, _PICTURES} & axes:
        return [{NEW: length} for length in prompts]
    # Token ids alone: those of a prompt, and the next one.
    return [{NEW: length} for length in (1, *prompts)]


def _round_up(length: int) -> int:
    return -(-length // _STEP) * _STEP


def vision_sizes(recipe: dict[str, Any], told: Mapping[str, Any]) -> Sizes:
    """Sizes that hold one picture of any aspect ratio, once it is resized as the recipe says."""
    shapes = {value["name"]: value["shape"] for value in told["inputs"]}
    found: dict[str, int] = {}
    for width, height in attainable_sizes(recipe):
        feeds = make_feeds(numpy.zeros((3, height, width), numpy.float32), recipe)
        taken = sizes_of(shapes.values(), [feeds[name] for name in shapes])
        found = {name: max(size, found.get(name, 0)) for name, size in taken.items()}
    return found


def attainable_sizes(recipe: dict[str, Any]) -> list[tuple[int, int]]:
    """Every width and height that pictures of an aspect ratio from 1:16 to 16:1 are resized to.

    Where pictures keep their area, both sides are rounded, and ratios between common ones may need
    more patches than any of these.
    """
    if recipe["fit"] != "area":
        return picture_sizes(recipe)
    step = recipe["multiple"]
    roots = numpy.geomspace(1 / 16, 16, _RATIOS) ** 0.5
    sides = {(round(recipe["side"] / step * r), round(recipe["side"] / step / r)) for r in roots}
    return [(max(1, wide) * step, max(1, high) * step) for wide, high in sorted(sides)]


def picture_sizes(recipe: dict[str, Any]) -> list[tuple[int, int]]:
    """Width and height of pictures of several aspect ratios, once they are resized."""
    pictures = [Image.new("1", (max(1, round(256 * aspect)), 256)) for aspect in _ASPECTS]
    return list(dict.fromkeys(resize(picture, recipe).size for picture in pictures))
