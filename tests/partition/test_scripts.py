"""The scripts of the standalone folders, in this process and with a graph of one operation."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import ExifTags, Image

from profiling.partition import language_inference, vision_inference

RECIPE = {
    "fit": "square",
    "side": 4,
    "resample": 0,
    "rescale_factor": 1 / 255,
    "mean": [0.0, 0.0, 0.0],
    "std": [0.5, 1.0, 2.0],
    "patches": None,
    "window": None,
}


def write_mean(path: Path) -> None:
    """The mean of each channel as the one embedding of a picture."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["pixel_values", "axes"], ["means"], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("means", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


def test_a_picture_becomes_embeddings_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mean(tmp_path / "vision_model.onnx")
    (tmp_path / "preprocessing.json").write_text(json.dumps(RECIPE))
    picture, output = tmp_path / "picture.png", tmp_path / "seen"
    Image.new("RGB", (10, 6), (255, 51, 102)).save(picture)
    monkeypatch.setattr(vision_inference, "HERE", tmp_path)
    typed = ["x.py", "--image", str(picture), "--output", str(output), "--threads", "1"]
    monkeypatch.setattr(sys, "argv", typed)
    vision_inference.main()
    assert capsys.readouterr().out == f"1 embeddings of 4x4 pixels: {output}\n"
    found = numpy.load(output)
    assert (int(found["width"]), int(found["height"])) == (4, 4)
    assert found["embeddings"][0] == pytest.approx([1 / 0.5, 0.2, 0.4 / 2], rel=1e-6)


@pytest.mark.parametrize(
    ("mode", "value", "seen"),
    [
        # What lies behind transparent places is white.
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("LA", (7, 255), (7, 7, 7)),
        # Sixteen bits a value become eight.
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 3, (3, 3, 3)),
        ("L", 9, (9, 9, 9)),
    ],
)
def test_a_picture_of_any_mode_is_seen_as_displayed(
    mode: str, value: int | tuple[int, ...], seen: tuple[int, int, int], tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    Image.new(mode, (2, 2), value).save(path)
    picture = vision_inference.read_picture(path)
    assert (picture.mode, picture.getpixel((1, 1))) == ("RGB", seen)


def test_a_script_and_the_harness_see_the_same_picture(tmp_path: Path) -> None:
    """Also where Pillow cannot write the other EXIF data again, which is none of their business."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.XResolution] = 6, 72.0
    # A text in the place of a fraction.
    content = exif.tobytes().replace(b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02")
    Image.new("RGB", (8, 4), "red").save(tmp_path / "turned.jpg", exif=content)
    assert vision_inference.obtain_picture(tmp_path / "turned.jpg").size == (4, 8)
    Image.fromarray(numpy.ones((2, 2), numpy.float32)).save(tmp_path / "deep.tif")
    with pytest.raises(SystemExit, match="floating-point pixels have no agreed white"):
        vision_inference.obtain_picture(tmp_path / "deep.tif")


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_picture_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=rf"^--image {path}: [^\n]+$"):
        vision_inference.obtain_picture(path)


@pytest.mark.parametrize(
    ("module", "typed", "said"),
    [
        (vision_inference, ["--threads", "-1"], "--threads -1: allowed is"),
        (vision_inference, ["--output", "nowhere/seen.npz"], "--output: .*No such file"),
        (language_inference, ["--max-tokens", "0"], "--max-tokens 0: allowed is"),
        (language_inference, ["--device", "cuda:99"], "--device cuda:99: "),
        (language_inference, ["--device", "abacus"], "--device abacus: "),
    ],
)
def test_options_that_cannot_be_are_one_line(
    module: ModuleType,
    typed: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_mean(tmp_path / "vision_model.onnx")
    (tmp_path / "preprocessing.json").write_text(json.dumps(RECIPE))
    (tmp_path / "prompt.json").write_text("{}")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    needed = ["--image", str(tmp_path / "a.png")]
    if module is language_inference:
        needed = ["--embeddings", "seen.npz", "--text", "what?"]
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["x.py", *needed, *typed])
    with pytest.raises(SystemExit, match=rf"^{said}[^\n]*$"):
        module.main()


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x03\x04"])
def test_what_are_no_embeddings_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "seen.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=rf"^--embeddings {path}: not what [^\n]+$"):
        language_inference.read_embeddings(path)


def test_embeddings_without_the_picture_s_size_are_one_line(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "seen.npz", embeddings=numpy.zeros((1, 2)))
    with pytest.raises(SystemExit, match="width"):
        language_inference.read_embeddings(tmp_path / "seen.npz")
