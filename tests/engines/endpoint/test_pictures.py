"""Pictures are sent in the sizes that the torch engine has the network see, pixel by pixel."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path

import numpy
import pytest
from PIL import Image

from profiling.engines.endpoint.pictures import PictureSender
from profiling.points.options import list_families
from profiling.samples.samples import Sample
from tests.composing import compose_config, compose_point
from tests.marking import slow_except

MODELS = list_families()
GIVEN = ("engine=endpoint", "engine.url=http://localhost/v1", "engine.model=served")
SHAPES = ((112, 112), (300, 60), (61, 187), (640, 480))
SIDES = (60, 112, 224)


def make_picture(width: int, height: int) -> Image.Image:
    pattern = numpy.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=numpy.uint8)
    return Image.fromarray(pattern).resize((width, height), Image.Resampling.NEAREST)


def sender(*overrides: str) -> PictureSender:
    return PictureSender.from_settings(compose_config(*GIVEN, *overrides)["engine"])


def decode(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


@pytest.mark.parametrize("model", slow_except(MODELS, "llava", "qwen25vl"))
def test_sizes_are_those_of_the_torch_engine(model: str, tmp_path: Path) -> None:
    from profiling.engines.transformers.engine import TransformersEngine

    engine = TransformersEngine.load(compose_point(f"model={model}"))
    pictures = [make_picture(*shape) for shape in SHAPES]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    samples = [
        Sample(id=str(n), pictures=(tmp_path / f"{n}.png",), request="what?", references=("",))
        for n in range(len(pictures))
    ]
    batch = engine.prepare(samples, None)
    for side in SIDES:
        rows = engine.describe(batch, engine.encode(batch, side), None)
        expected = [(row.image_width, row.image_height) for row in rows]
        sent = [sender(f"model={model}").send(picture, side) for picture in pictures]
        assert [(one.width, one.height) for one in sent] == expected
        assert [decode(one.uri).size for one in sent] == expected


def test_png_loses_nothing() -> None:
    picture = make_picture(140, 84)
    one = sender()
    resized = one.resize(picture, 112)
    assert numpy.array_equal(numpy.asarray(decode(one.encode(resized))), numpy.asarray(resized))


def test_a_picture_that_has_its_size_is_sent_as_it_is() -> None:
    picture = make_picture(112, 112)
    assert numpy.array_equal(numpy.asarray(sender().resize(picture, 112)), numpy.asarray(picture))


def test_jpeg_is_smaller() -> None:
    noise = numpy.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=numpy.uint8)
    picture = Image.fromarray(noise)
    coarse, fine = (
        sender("engine.picture_format=jpeg", f"engine.jpeg_quality={quality}").send(picture, 112)
        for quality in (20, 95)
    )
    assert decode(coarse.uri).format == "JPEG"
    assert len(coarse.uri) < len(fine.uri) < len(sender().send(picture, 112).uri)


def test_the_middle_is_cut_out() -> None:
    wide = Image.new("RGB", (300, 100), "black")
    wide.paste("white", (100, 0, 200, 100))
    cropped = sender("engine.picture_fit=crop", "engine.picture_filter=nearest").resize(wide, 112)
    assert cropped.size == (112, 112)
    assert numpy.asarray(cropped).mean() > 250
    stretched = sender("engine.picture_fit=square").resize(wide, 112)
    assert stretched.size == (112, 112)
    assert numpy.asarray(stretched).mean() < 100


@pytest.mark.parametrize("shape", SHAPES)
def test_the_area_is_kept_with_the_aspect_ratio(shape: tuple[int, int]) -> None:
    width, height = sender("engine.picture_multiple=1").size_for(Image.new("RGB", shape), 224)
    assert math.isclose(width * height, 224**2, rel_tol=0.02)
    assert math.isclose(width / height, shape[0] / shape[1], rel_tol=0.02)
