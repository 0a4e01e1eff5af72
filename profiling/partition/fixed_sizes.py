"""The sizes that programs of a fixed shape are written for: one question about one picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy

from profiling.graphs.part_folder import VISION_ENCODER
from profiling.models.text_parts import ENCODED, ENCODER, NEW, PAST
from profiling.partition.saved_part import Sizes, size_in, sizes_of
from profiling.partition.vision_inference import make_feeds, resized_to

# Beside the tokens of a picture there is room for so many of text; lengths are multiples of a step.
_TEXT_ROOM, _STEP = 96, 64
_TOTAL, _VISUAL, _PICTURES = "total", "visual", "pictures"
# Width over height of pictures, square ones first.
COMMON = (1, 1.5, 0.25, 2 / 3, 4 / 3, 3 / 4, 16 / 9, 9 / 16, 2, 0.5, 4, 8, 1 / 8, 16, 1 / 16)
# Both sides are rounded: a ratio between two common ones may need more patches than either.
_EVERY = numpy.geomspace(1 / 16, 16, 20_001).tolist()
_HEIGHT = 100_000


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
    for width, height in picture_sizes(recipe, _EVERY):
        feeds = make_feeds(numpy.zeros((3, height, width), numpy.float32), recipe)
        taken = sizes_of(shapes.values(), [feeds[name] for name in shapes])
        found = {name: max(size, found.get(name, 0)) for name, size in taken.items()}
    return found


def picture_sizes(recipe: dict[str, Any], aspects: Iterable[float]) -> list[tuple[int, int]]:
    """Width and height of pictures of these aspect ratios, once they are resized."""
    widths = [max(1, round(_HEIGHT * aspect)) for aspect in aspects]
    return list(dict.fromkeys(resized_to(width, _HEIGHT, recipe) for width in widths))


def zeros_of(value: Mapping[str, Any], sizes: Sizes) -> Any:
    """An array of zeros in the place of an input, which a program is traced with."""
    return numpy.zeros([size_in(axis, sizes) for axis in value["shape"]], value["dtype"])
