"""The sizes that programs of a fixed shape are written for: one question about one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from profiling.graphs.part_folder import VISION_ENCODER
from profiling.models.text_parts import ENCODED, ENCODER, NEW, PAST
from profiling.partition.saved_part import Sizes, size_in, sizes_of
from profiling.partition.vision_inference import make_feeds, resized_to

# Beside the tokens of a picture there is room for so many of text; lengths are multiples of a step.
_TEXT_ROOM, _STEP = 96, 64
_TOTAL, _VISUAL, _PICTURES = "total", "visual", "pictures"
# So many aspect ratios are tried, with pictures of this height.
_RATIOS, _HEIGHT = 20_001, 100_000


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
    for width, height in picture_sizes(recipe):
        feeds = make_feeds(numpy.zeros((3, height, width), numpy.float32), recipe)
        taken = sizes_of(shapes.values(), [feeds[name] for name in shapes])
        found = {name: max(size, found.get(name, 0)) for name, size in taken.items()}
    return found


def picture_sizes(recipe: dict[str, Any]) -> list[tuple[int, int]]:
    """Every width and height that pictures from 1:16 to 16:1 have, once they are resized."""
    # Both sides are rounded: a ratio between two common ones may need more patches than either.
    widths = numpy.geomspace(_HEIGHT / 16, _HEIGHT * 16, _RATIOS).round().astype(int).tolist()
    return list(dict.fromkeys(resized_to(width, _HEIGHT, recipe) for width in widths))
