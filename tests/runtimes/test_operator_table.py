"""The operator table: the reference in NumPy against ONNX Runtime, operator by operator."""

from __future__ import annotations

from pathlib import Path

import numpy
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from profiling.runtimes.native.native_graph import GraphRefused, NativeGraph
from profiling.runtimes.native.native_program import NativeProgram
from profiling.runtimes.native.numpy_adapter import NumpyAdapter
from profiling.runtimes.native.operator_table import OPERATORS
from tests.runtimes.operator_cases import Case, cases, real, whole

CASES = cases()


def save(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "small.onnx"
    onnx.save(model, str(path))
    return path


def open_graph(model: onnx.ModelProto, folder: Path) -> NativeProgram:
    return NativeProgram(NativeGraph(save(model, folder), NumpyAdapter()), buckets=None)


def name_case(case: Case) -> str:
    return "-".join([case.kind, *(f"{name}={value}" for name, value in case.attributes.items())])


@pytest.mark.parametrize("kind", sorted({case.kind for case in CASES}))
def test_an_operator_is_computed_as_onnxruntime_does(kind: str, tmp_path: Path) -> None:
    # With an operator in a graph of its own, threads only cost time.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for case in (one for one in CASES if one.kind == kind):
        model = case.model()
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        expected = session.run(None, case.given)
        found = open_graph(model, tmp_path).run(case.given)
        for one, other in zip(found, expected, strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape), name_case(case)
            numpy.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6, err_msg=name_case(case))


def test_every_operator_has_a_case() -> None:
    assert {case.kind for case in CASES} == set(OPERATORS)


def make_chain(*nodes: onnx.NodeProto, opset: int = 18, **stored: numpy.ndarray) -> onnx.ModelProto:
    """A graph from `x` to `y` with a first axis of any length."""
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])]
    weights = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    made = [helper.make_empty_tensor_value_info("y")]
    graph = helper.make_graph(list(nodes), "chain", ends, made, weights)
    known = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=known, ir_version=10)


def node(kind: str, inputs: str, output: str, **given: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], name=f"the_{kind}", **given)


def test_what_depends_on_constants_alone_is_computed_once(tmp_path: Path) -> None:
    model = make_chain(
        node("Cast", "half", "weight", to=TensorProto.FLOAT),
        node("Transpose", "weight", "turned"),
        node("MatMul", "x turned", "y"),
        half=real(5, 4).astype(numpy.float16),
    )
    program = open_graph(model, tmp_path)
    assert [step.kind for step in program.graph._steps] == ["MatMul"]
    assert [value.dtype for value in program.graph.parameters.values()] == [numpy.float32]
    x = real(3, 4)
    (found,) = program.run({"x": x})
    numpy.testing.assert_allclose(found, x @ real(5, 4).astype(numpy.float16).T, rtol=1e-3)


def test_shapes_follow_the_inputs(tmp_path: Path) -> None:
    """What is reshaped by a computed shape has other shapes with other inputs."""
    model = make_chain(
        node("Shape", "x", "rows", start=0, end=1),
        node("Concat", "rows two minus", "shape", axis=0),
        node("Reshape", "x shape", "y"),
        two=whole(2),
        minus=whole(-1),
    )
    program = open_graph(model, tmp_path)
    for rows in (1, 3):
        (found,) = program.run({"x": real(rows, 4)})
        assert found.shape == (rows, 2, 2)


REFUSED = {
    "the operator table lacks NonZero, com.microsoft.MatMulNBits": [
        node("NonZero", "x", "a"),
        node("MatMulNBits", "x a", "y", domain="com.microsoft"),
    ],
    "Conv the_Conv with auto_pad=SAME_UPPER": [
        node("Conv", "x x", "y", auto_pad="SAME_UPPER"),
    ],
    "Pad the_Pad has the attribute value": [node("Pad", "x x", "y", value=1.0)],
    "GatherND the_GatherND with batch_dims=1": [node("GatherND", "x whole", "y", batch_dims=1)],
    "MatMul the_MatMul gives 2 outputs": [
        helper.make_node("MatMul", ["x", "x"], ["y", "z"], name="the_MatMul")
    ],
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_table_lacks_is_named_with_the_graph(reason: str, tmp_path: Path) -> None:
    model = make_chain(*REFUSED[reason], whole=whole(0, 1, shape=(2, 1)))
    with pytest.raises(GraphRefused) as caught:
        open_graph(model, tmp_path).run({"x": real(2, 4)})
    assert str(caught.value) == f"numpy cannot run small.onnx: {reason}"


def test_an_old_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphRefused, match="opset 11 is older than 13"):
        open_graph(make_chain(node("Softmax", "x", "y"), opset=11), tmp_path)
