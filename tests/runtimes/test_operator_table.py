"""The operator table: the reference in NumPy against ONNX Runtime, operator by operator."""

from __future__ import annotations

from pathlib import Path

import numpy
import onnx
import onnxruntime
import pytest

from profiling.runtimes.native.native_graph import NativeGraph
from profiling.runtimes.native.native_program import NativeProgram
from profiling.runtimes.native.numpy_adapter import NumpyAdapter
from profiling.runtimes.native.operator_table import OPERATORS
from tests.runtimes.operator_cases import Case, cases

CASES = cases()


def save(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "small.onnx"
    onnx.save(model, str(path))
    return path


def open_graph(model: onnx.ModelProto, folder: Path) -> NativeProgram:
    return NativeProgram(NativeGraph(save(model, folder), NumpyAdapter()))


def name_case(case: Case) -> str:
    return "-".join([case.kind, *(f"{name}={value}" for name, value in case.attributes.items())])


@pytest.mark.parametrize("case", CASES, ids=name_case)
def test_an_operator_is_computed_as_onnxruntime_does(case: Case, tmp_path: Path) -> None:
    model = case.model()
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = session.run(None, case.given)
    found = open_graph(model, tmp_path).run(case.given)
    for one, other in zip(found, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        numpy.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def test_every_operator_has_a_case() -> None:
    assert {case.kind for case in CASES} == set(OPERATORS)
