"""Saved parts: programs of fixed shapes, the formats' writers and readers, and pickles."""

from __future__ import annotations

import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from profiling.partition.converters.converter import Source, find_converter, list_engines
from profiling.partition.fixed_sizes import choose_sizes
from profiling.partition.saved_part import FixedPart, SavedPart, size_in
from profiling.partition.torch_inference import find_pickles, refuse_pickles
from profiling.partition.vision_inference import resize
from tests.composing import PROJECT

LOWEST = float(numpy.finfo(numpy.float32).min)
# A decoder that adds up the rows that are not hidden.
DECODER = {
    "name": "decoder",
    "inputs": [
        {"name": "inputs_embeds", "dtype": "float32", "shape": ["batch", "new", 2]},
        {
            "name": "bias",
            "dtype": "float32",
            "shape": ["batch", 1, "new", "total"],
            "fill": LOWEST,
        },
        {"name": "past_k0", "dtype": "float32", "shape": ["batch", 1, "past", 2]},
    ],
    "outputs": [
        {"name": "logits", "dtype": "float32", "shape": ["batch", 1, 2]},
        {"name": "present_k0", "dtype": "float32", "shape": ["batch", 1, "past + new", 2]},
    ],
    "programs": [
        {"sizes": {"batch": 1, "new": 4, "past": 0, "total": 4}},
        {"sizes": {"batch": 1, "new": 1, "past": 6, "total": 7}},
    ],
}


class Adding:
    """The decoder for any size, which notes the shapes that it was given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, given: Any) -> list[Any]:
        embeddings, bias, past = given
        self.shapes.append((embeddings.shape[1], past.shape[2]))
        kept = numpy.concatenate([past, embeddings[:, None]], axis=2)
        seen = (bias[:, 0, -1] == 0)[:, None, :, None]
        return [(kept * seen).sum(2), kept]


def step(part: SavedPart, rows: Any, past: Any) -> list[Any]:
    total = past.shape[2] + len(rows)
    bias = numpy.zeros((1, 1, len(rows), total), numpy.float32)
    feeds = {"inputs_embeds": rows[None], "bias": bias, "past_k0": past}
    return part.run(feeds)


def test_a_program_of_a_fixed_shape_gives_what_one_of_any_shape_gives() -> None:
    adding = Adding()
    fixed, free = FixedPart(DECODER, [adding, adding]), SavedPart(DECODER, Adding())
    rows = numpy.random.default_rng(0).standard_normal((7, 2)).astype(numpy.float32)
    empty = numpy.zeros((1, 1, 0, 2), numpy.float32)
    past = {fixed: empty, free: empty}
    for start, stop in ((0, 3), (3, 4), (4, 5), (5, 6)):
        made = {part: step(part, rows[start:stop], past[part]) for part in past}
        for one, other in zip(made[fixed], made[free], strict=True):
            assert one.shape == other.shape
            assert numpy.allclose(one, other, atol=1e-6)
        past = {part: outputs[1] for part, outputs in made.items()}
    # The prompt of 3 by the program for 4, and each step by the one with room for 6.
    assert adding.shapes == [(4, 0), (1, 6), (1, 6), (1, 6)]


@pytest.mark.parametrize(("new", "past"), [(5, 0), (2, 3), (1, 7)])
def test_what_no_program_takes_is_one_line(new: int, past: int) -> None:
    part = FixedPart(DECODER, [Adding(), Adding()])
    rows, held = numpy.zeros((new, 2), numpy.float32), numpy.zeros((1, 1, past, 2), numpy.float32)
    line = rf"^decoder was saved for fixed shapes and cannot take batch=1, new={new}, .*past={past}"
    with pytest.raises(SystemExit, match=line):
        step(part, rows, held)


def test_two_rows_do_not_fit_into_one() -> None:
    part = FixedPart(DECODER, [Adding(), Adding()])
    feeds = {
        "inputs_embeds": numpy.zeros((2, 1, 2), numpy.float32),
        "bias": numpy.zeros((2, 1, 1, 1), numpy.float32),
        "past_k0": numpy.zeros((2, 1, 0, 2), numpy.float32),
    }
    with pytest.raises(SystemExit, match="cannot take batch=2"):
        part.run(feeds)


@pytest.mark.parametrize(
    ("axis", "size"),
    [
        (3, 3),
        ("new", 2),
        ("new + past", 7),
        ("(patches//4)", 4),
        ("new + 1", 3),
        ("32*new", 64),
        ("new*((patches//4))*((past//2))", 16),
    ],
)
def test_sizes_of_axes(axis: int | str, size: int) -> None:
    assert size_in(axis, {"new": 2, "past": 5, "patches": 16}) == size


@pytest.mark.parametrize("axis", ["new.real", "print(1)", "new / 2", "'a'"])
def test_what_is_no_size_is_refused(axis: str) -> None:
    with pytest.raises(ValueError, match="is not the size of an axis"):
        size_in(axis, {"new": 2})


SQUARE = {
    "fit": "square",
    "side": 8,
    "resample": 0,
    "patches": None,
    "window": None,
}
AREA = {
    "fit": "area",
    "side": 16,
    "multiple": 4,
    "resample": 0,
    "patches": {"patch": 2, "merge": 2, "channels_last": True},
    "window": None,
}


def told(inputs: dict[str, list[Any]], *outputs: list[Any]) -> dict[str, Any]:
    return {
        "inputs": [{"name": name, "shape": shape} for name, shape in inputs.items()],
        "outputs": [{"shape": shape} for shape in outputs],
    }


def test_sizes_hold_a_picture_of_any_aspect_ratio() -> None:
    parts = {"vision_encoder": told({"pixel_values": ["patches", 12]}, ["(patches//4)", 8])}
    chosen = choose_sizes(AREA, parts, prompts=(), new_tokens=8)
    (sizes,) = chosen["vision_encoder"]
    for width, height in ((1000, 1000), (1294, 1000), (2100, 1000), (1600, 100), (1000, 1377)):
        resized = resize(Image.new("RGB", (width, height)), AREA)
        wide, high = (length // AREA["multiple"] for length in resized.size)
        assert sizes["patches"] >= 4 * wide * high, (width, height)


def test_each_part_has_programs_for_a_prompt_and_for_a_step() -> None:
    shape = ["batch", 3, "height", "width"]
    parts = {
        "vision_encoder": told({"pixel_values": shape}, ["batch * 4", 8]),
        "text_embedding": told({"input_ids": ["batch", "new"]}),
        "fusion": told({"input_ids": ["batch", "new"], "picture_embeds": ["visual", 8]}),
        "rotary_text": told({"attention_mask": ["batch", "total"]}),
        "decoder": told({"bias": ["batch", 1, "new", "total"], "k": ["batch", 1, "past", 2]}),
    }
    parts["vision_encoder"]["outputs"] = [{"shape": [16, 8]}]
    chosen = choose_sizes(SQUARE, parts, prompts=(100, 50), new_tokens=20)
    assert chosen["vision_encoder"] == [{"batch": 1, "height": 8, "width": 8}]
    assert chosen["text_embedding"] == [{"batch": 1, "new": n} for n in (1, 50, 100)]
    assert chosen["fusion"] == [{"batch": 1, "visual": 16, "new": n} for n in (50, 100)]
    assert [one["total"] for one in chosen["rotary_text"]] == [50, 100, 129]
    prompts = [{"batch": 1, "new": n, "past": 0, "total": n} for n in (50, 100)]
    assert chosen["decoder"] == [*prompts, {"batch": 1, "new": 1, "past": 128, "total": 129}]
    chosen = choose_sizes(SQUARE, parts, prompts=(), new_tokens=20)
    assert [one["new"] for one in chosen["text_embedding"]] == [1, 128]


# Formats


class Linear(nn.Module):
    """[batch, 3] to [batch, 2] and a sum of the whole numbers beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, rows: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inner(rows), ids + ids


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """The same in a graph and as a module."""
    module = Linear().eval()
    weight, bias = (value.detach().numpy() for value in module.inner.parameters())
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["rows", "weight", "shift"], ["product"], transB=1),
            helper.make_node("Add", ["ids", "ids"], ["twice"]),
        ],
        "linear",
        [
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch"]),
        ],
        [
            helper.make_tensor_value_info("product", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("twice", TensorProto.INT64, ["batch"]),
        ],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "shift")],
    )
    path = tmp_path / "linear.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, str(path))
    described = {
        "inputs": [
            {"name": "rows", "dtype": "float32", "shape": ["batch", 3]},
            {"name": "ids", "dtype": "int64", "shape": ["batch"]},
        ],
        "outputs": [
            {"name": "product", "dtype": "float32", "shape": ["batch", 2]},
            {"name": "twice", "dtype": "int64", "shape": ["batch"]},
        ],
    }
    return Source(
        name="linear",
        graph=path,
        told=described,
        module=module,
        example={"rows": torch.ones(2, 3), "ids": torch.arange(2)},
        axes={"rows": {0: "batch"}, "ids": {0: "batch"}},
    )


# Paddle and MindSpore cannot share a process: their formats have a test of whole models.
@pytest.mark.parametrize("engine", ["torch", "openvino", "jax"])
def test_a_part_is_read_back_as_it_was_written(engine: str, source: Source, tmp_path: Path) -> None:
    pytest.importorskip(engine)
    folder = tmp_path / "saved"
    folder.mkdir()
    saved = find_converter(engine).save(source, folder, [{"batch": 2}, {"batch": 5}])
    open_part = import_module(f"profiling.partition.{engine}_inference").open_part
    part = open_part(folder, {"name": "linear", **source.told, **saved}, 1)
    for rows in (2, 3, 5):
        given = numpy.random.default_rng(rows).standard_normal((rows, 3)).astype(numpy.float32)
        ids = numpy.arange(rows)
        right, twice = source.module(torch.from_numpy(given), torch.from_numpy(ids))
        product, doubled = part.run({"rows": given, "ids": ids})
        assert numpy.allclose(product, right.detach().numpy(), atol=1e-5)
        assert doubled.tolist() == twice.tolist()


@pytest.mark.parametrize("engine", ["torch", "openvino", "jax"])
def test_what_is_written_names_no_path_of_this_machine(
    engine: str, source: Source, tmp_path: Path
) -> None:
    pytest.importorskip(engine)
    folder = tmp_path / "saved"
    folder.mkdir()
    find_converter(engine).save(source, folder, [{"batch": 2}])
    for path in folder.iterdir():
        held = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                held = [archive.read(name) for name in archive.namelist()]
        for content in held:
            assert str(PROJECT).encode() not in content and b"site-packages" not in content, path


def test_every_engine_has_a_converter_and_a_script() -> None:
    folder = Path(import_module("profiling.partition").__file__ or "").parent
    assert {"jax", "mindspore", "openvino", "paddle", "torch"} == set(list_engines())
    assert [
        name for name in list_engines() if not (folder / f"{name}_inference.py").is_file()
    ] == []


# Pickles


def test_a_program_is_written_without_pickled_objects(source: Source, tmp_path: Path) -> None:
    find_converter("torch").save(source, tmp_path, ())
    path = tmp_path / "linear.pt2"
    assert list(find_pickles(path)) == []
    with zipfile.ZipFile(path) as archive:
        held = [archive.read(name) for name in archive.namelist()]
    # How a pickle begins, alone and inside of a file of torch.save.
    assert [content[:4] for content in held if content[:2] in (b"\x80\x02", b"PK")] == []


def test_a_program_with_pickled_inputs_is_refused(source: Source, tmp_path: Path) -> None:
    program = torch.export.export(source.module, tuple(source.example.values()))
    path = tmp_path / "other.pt2"
    torch.export.save(program, path)
    with pytest.raises(SystemExit, match=r"other\.pt2 holds a pickled object, data/sample_inputs"):
        refuse_pickles(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data/weights/linear.pt", b"old"),
        ("data/constants/opaque_obj_0", b"code"),
        ("data/extra/anything", b"code"),
        (
            "data/weights/model_weights_config.json",
            b'{"config": {"w": {"path_name": "weight_0", "use_pickle": true}}}',
        ),
        (
            "data/constants/model_constants_config.json",
            b'{"config": {"c": {"path_name": "custom_obj_0", "use_pickle": false}}}',
        ),
    ],
)
def test_what_could_be_unpickled_is_found(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "planted.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"planted/{name}", content)
    assert len(list(find_pickles(path))) == 1
