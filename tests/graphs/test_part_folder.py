"""The folder of parts: what its manifest says of graphs, here of graphs of one operation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from profiling.graphs import part_folder
from profiling.graphs.check import write_check
from profiling.graphs.export import MODEL_FILE
from profiling.graphs.layouts import values_of
from profiling.graphs.part_folder import MANIFEST_FILE, describe, rename_graph, write_parts
from tests.tiny_models import FAMILIES, load

WEIGHTS = numpy.arange(4096, dtype=numpy.float32)
CHECKED = [{"relative_l2": 1e-7}]
# What joins pictures and text, where positions are inputs of the decoder.
JOINING = {
    "blip2_opt": {"fusion", "rotary_text"},
    "blip2_t5": {"fusion"},
    "fuyu": {"fusion", "rotary_text"},
    "llava": {"fusion", "rotary_text"},
    "qwen25vl": {"fusion", "rotary_text", "rotary_with_vision"},
}


def write_graph(path: Path) -> None:
    """Adds weights, which are in a file of their own, to each row."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["rows", "weights"], ["sums"])],
        "sum",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", len(WEIGHTS)])],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["batch", len(WEIGHTS)])],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    location = values_of(path).name
    onnx.save(model, str(path), save_as_external_data=True, location=location)


def add(path: Path) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"rows": numpy.ones((1, len(WEIGHTS)), numpy.float32)})[0]


def test_a_graph_that_was_renamed_finds_its_weights(tmp_path: Path) -> None:
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    write_graph(before)
    # What stood there is replaced, with its weights.
    after.write_bytes(b"old")
    values_of(after).write_bytes(b"old")
    rename_graph(before, after)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after.onnx", "after.onnx.data"]
    assert numpy.array_equal(add(after)[0], WEIGHTS + 1)


def test_a_graph_is_described_with_the_digests_of_its_files(tmp_path: Path) -> None:
    path = tmp_path / "sum.onnx"
    write_graph(path)
    told = describe(path)
    shape = ["batch", len(WEIGHTS)]
    assert (told["file"], told["opset"]) == ("sum.onnx", {"ai.onnx": 18})
    assert told["inputs"] == [
        {"name": "rows", "dtype": "float32", "shape": shape, "dynamic_axes": [0]}
    ]
    assert [one["name"] for one in told["outputs"]] == ["sums"]
    assert told["files"] == {
        one.name: {
            "bytes": one.stat().st_size,
            "sha256": hashlib.sha256(one.read_bytes()).hexdigest(),
        }
        for one in (path, values_of(path))
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_manifest_names_every_part(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(family).model

    def export_vision(model: Any, folder: Path, **options: Any) -> Path:
        assert not (folder / MANIFEST_FILE).exists()
        write_graph(folder / MODEL_FILE)
        write_check(folder, {"checked": CHECKED, **options})
        return folder / MODEL_FILE

    def export_parts(parts: Mapping[str, Any], folder: Path, *, precision: str) -> dict[str, Any]:
        for name in parts:
            write_graph(folder / f"{name}.onnx")
        return {"parts": {name: {"checked": [{"of": name}]} for name in parts}}

    monkeypatch.setattr(part_folder, "export_vision", export_vision)
    monkeypatch.setattr(part_folder, "export_parts", export_parts)
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / MANIFEST_FILE).write_text("of a run that broke off")
    path = write_parts(model, folder, facts={"model": family})
    manifest = json.loads(path.read_text())
    texts = model.family.layout.text_parts(model.network).keys()
    assert manifest["model"] == family
    assert manifest["parts"].keys() == {"vision_encoder", *texts, *JOINING[family]}
    assert manifest["parts"]["vision_encoder"]["checked"] == CHECKED
    assert manifest["parts"]["fusion"]["checked"] == [{"of": "fusion"}]
    graphs = {file for part in manifest["parts"].values() for file in part["files"]}
    assert {one.name for one in folder.iterdir()} == {*graphs, MANIFEST_FILE}
