"""Answers depend on the row's own picture, which has the requested size."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from profiling.models.model import Model
from tests.composing import compose_point
from tests.tiny_models import (
    FAMILIES,
    ask,
    encode,
    first_logits,
    load,
    make_picture,
    model_name,
)

QUESTION = "what does the sign say?"
# width and height: landscape, portrait, and very long
SHAPES = ((240, 240), (60, 240), (800, 40))


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    return load(request.param).model


def native(model: Model) -> int:
    return compose_point(f"model={model_name(model)}").img_size


def logits_for(model: Model, picture: Image.Image) -> Tensor:
    side = native(model)
    return first_logits(model, encode(model, [ask(model, QUESTION, picture)], side), side)[0]


def test_other_pixels_give_other_logits(model: Model) -> None:
    one, same, other, blank = (
        logits_for(model, picture)
        for picture in (
            make_picture(240, 240, seed=1),
            make_picture(240, 240, seed=1),
            make_picture(240, 240, seed=2),
            Image.new("RGB", (240, 240)),
        )
    )
    spread = float(one.std())
    assert torch.equal(one, same)
    assert float((one - other).abs().max()) > 0.1 * spread
    assert float((one - blank).abs().max()) > 0.1 * spread


def test_each_row_of_a_batch_has_a_picture_of_its_own(model: Model) -> None:
    side = native(model)
    pictures = [make_picture(240, 240, seed=seed) for seed in (1, 2, 3)]
    asked = [ask(model, QUESTION, picture) for picture in pictures]
    together = first_logits(model, encode(model, asked, side), side)
    turned = first_logits(model, encode(model, asked[::-1], side), side)
    assert torch.allclose(together, turned.flip(0), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together[0], together[1], rtol=1e-2, atol=1e-2)


class Watch:
    """Records the vision part's input and the output of the last module of the vision side."""

    def __init__(self, model: Model) -> None:
        parts = model.parts()
        self.pixels: list[Tensor] = []
        self.rows = 0
        last = (parts["projector"] or parts["vision"])[-1]
        self._handles = [
            parts["vision"][0].register_forward_pre_hook(self._enter, with_kwargs=True),
            last.register_forward_hook(self._leave),
        ]

    def _enter(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
        self.pixels.append(next(t for t in tensors if t.is_floating_point()))

    def _leave(self, _: Any, __: Any, output: Tensor) -> None:
        self.rows += output.numel() // output.shape[-1]

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def sizes_of(model: Model) -> list[int]:
    smallest = [30] if model_name(model) == "fuyu" else []
    return [*smallest, 56, 57, 60, 113]


def check_sizes(model: Model, side: int) -> None:
    asked = [ask(model, QUESTION, make_picture(*shape, seed=i)) for i, shape in enumerate(SHAPES)]
    with Watch(model) as watch:
        inputs = encode(model, asked, side)
        first_logits(model, inputs, side)
    seen = model.family.processing.picture_sizes(inputs)
    assert seen == [
        model.family.processing.size_for(item.shown.pictures[0], side) for item in asked
    ]
    check_pixels(model, watch, seen)
    counts = model.family.processing.count_visual_tokens(inputs["input_ids"]).tolist()
    assert counts == [expected_tokens(model, *size) for size in seen]
    assert sum(counts) == watch.rows
    for item, size in zip(asked, seen, strict=True):
        check_size(model, item.shown.pictures[0], side, size)


def check_pixels(model: Model, watch: Watch, seen: list[tuple[int, int]]) -> None:
    """The vision part got three colours of exactly these pictures, without padding."""
    vision = getattr(model.family.config, "vision_config", None)
    frames = getattr(vision, "temporal_patch_size", 1)
    got = sum(pixels.numel() for pixels in watch.pixels)
    assert got == 3 * frames * sum(width * height for width, height in seen)
    for pixels in watch.pixels:
        if pixels.ndim == 4:
            assert tuple(pixels.shape[-2:]) == (seen[0][1], seen[0][0])


def expected_tokens(model: Model, width: int, height: int) -> int:
    config = model.family.config
    if model_name(model).startswith("blip2"):
        return int(config.num_query_tokens)
    side = {"llava": 14, "qwen25vl": 28, "fuyu": 30}[model_name(model)]
    return (width // side) * (height // side)


def check_size(model: Model, picture: Image.Image, side: int, seen: tuple[int, int]) -> None:
    step = model.family.processing.multiple
    assert all(length % step == 0 and length >= step for length in seen)
    if not model.family.processing.keeps_aspect_ratio:
        assert seen[0] == seen[1]
        assert abs(seen[0] - side) <= step / 2 or seen[0] == step
        return
    scale = side / math.sqrt(picture.width * picture.height)
    for length, original in zip(seen, picture.size, strict=True):
        assert abs(length - original * scale) <= step / 2 or length == step


def test_the_vision_part_gets_the_requested_size(model: Model) -> None:
    for side in sizes_of(model):
        check_sizes(model, side)


@pytest.mark.slow
@pytest.mark.parametrize("side", [84, 98, 112, 140, 168, 224, 336, 448])
def test_the_vision_part_sees_large_sizes(model: Model, side: int) -> None:
    check_sizes(model, side)


def test_a_size_beside_the_grid_is_the_nearest_on_it(model: Model) -> None:
    step = model.family.processing.multiple
    assert model.family.processing.snap_side(3 * step) == 3 * step
    assert model.family.processing.snap_side(3 * step + 1) == 3 * step
    assert model.family.processing.snap_side(4 * step - 1) == 4 * step
    assert model.family.processing.snap_side(1) == step


def test_more_pixels_of_the_same_picture_give_other_logits(model: Model) -> None:
    """Positions are interpolated for other sizes; pictures are not cropped to the native one."""
    picture = make_picture(240, 240, seed=1)
    small, large = 4 * model.family.processing.multiple, 6 * model.family.processing.multiple
    asked = [ask(model, QUESTION, picture)]
    logits = [first_logits(model, encode(model, asked, side), side)[0] for side in (small, large)]
    assert not torch.allclose(*logits, rtol=1e-3, atol=1e-3)
