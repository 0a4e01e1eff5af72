"""A graph of two operations in OpenVINO: its names, its numbers, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy
import onnx
import pytest
from onnx import TensorProto, helper

from profiling.runtimes.runtime import RuntimeAbsent, find_runtime

openvino = pytest.importorskip("openvino")
SETTINGS = {"compute": "float32"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`product` of any number of rows, and what is `counted` of them."""
    weights = numpy.arange(6, dtype=numpy.float32).reshape(3, 2)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["rows", "weights"], ["product"]),
            helper.make_node("Add", ["number", "number"], ["twice"]),
        ],
        "two",
        [
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("number", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("product", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("twice", TensorProto.INT64, [1]),
        ],
        [helper.make_tensor("weights", TensorProto.FLOAT, (3, 2), weights.flatten())],
    )
    stored = tmp_path_factory.mktemp("graph") / "two.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, str(stored))
    return stored


def test_a_graph_gives_what_it_computes_and_keeps_it(path: Path) -> None:
    program = find_runtime("openvino").of(device="cpu", threads=1, settings=SETTINGS).open(path)
    assert (list(program.inputs), list(program.outputs)) == (
        ["rows", "number"],
        ["product", "twice"],
    )
    assert program.dtypes == {"rows": "float32", "number": "int64"}
    assert program.ranks == {"rows": 2, "number": 1}
    weights = numpy.arange(6, dtype=numpy.float32).reshape(3, 2)
    made = []
    for rows in (numpy.eye(3, dtype=numpy.float32), numpy.ones((1, 3), numpy.float32)):
        made.append((rows, program.run({"number": numpy.array([4]), "rows": rows})))
    # The second call left what the first one gave as it was.
    for rows, (product, twice) in made:
        assert numpy.array_equal(product, rows @ weights)
        assert twice.tolist() == [8]


def test_stored_int8_is_computed_as_such() -> None:
    runtime = find_runtime("openvino").of(device="cpu", threads=1, settings=SETTINGS)
    assert runtime.computes_in("int8") == "int8"
    assert runtime.computes_in("float32") == "float32"


def test_what_the_machine_cannot_have_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = find_runtime("openvino")
    with pytest.raises(RuntimeAbsent, match="on the CPU here, and the device is cuda:0"):
        kind.check("cuda:0", SETTINGS)
    offering = type("Core", (), {"get_property": lambda *_: ["INT8", "FP32"]})
    monkeypatch.setattr("profiling.runtimes.openvino.openvino.Core", offering)
    kind.check("cpu", SETTINGS)
    with pytest.raises(RuntimeAbsent, match="no bfloat16 in openvino: it offers FP32, INT8"):
        kind.check("cpu", {"compute": "bfloat16"})
