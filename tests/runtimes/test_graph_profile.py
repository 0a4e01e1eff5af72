"""ONNX Runtime's own profile of a graph: runs, the nodes' own times, and their modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
from onnx import TensorProto, helper

from profiling.runtimes.graph_profile import GraphProfile
from profiling.runtimes.onnxruntime import OnnxRuntime

ATTENTION = {
    "pkg.torch.onnx.name_scopes": "['', 'layers.3', 'layers.3.attn', 'linear']",
    "pkg.torch.onnx.class_hierarchy": "['a.Net', 'a.Layer', 'a.Attention', 'aten.linear.default']",
}
MODULES = [("", "Net"), ("layers.3", "Layer"), ("layers.3.attn", "Attention")]


def write_graph(path: Path) -> Path:
    """A product of a matrix with itself, and its sum with one."""
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["product"], "node_linear"),
        helper.make_node("Add", ["product", "one"], ["y"], "node_add"),
    ]
    for key, value in ATTENTION.items():
        nodes[0].metadata_props.add(key=key, value=value)
    given, made = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", "n"]) for n in "xy")
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    graph = helper.make_graph(nodes, "graph", [given], [made], [one])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))
    return path


def node(name: str, operator: str, begin: float, lasts: float) -> dict[str, Any]:
    args = {"op_name": operator, "input_type_shape": [{"float": [2, 3]}, {"float": []}]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": begin, "dur": lasts, "args": args}


def run(begin: float, lasts: float) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": begin, "dur": lasts, "args": {}}


def test_nodes_have_their_run_their_module_and_their_own_time(tmp_path: Path) -> None:
    written = tmp_path / "profile.json"
    events = [
        {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 9, "args": {}},
        # Of a node with a subgraph the nodes inside of it stand beside it.
        *(node("inner", "Add", 12, 3), node("inner", "Mul", 15, 4), node("node_if", "If", 11, 10)),
        run(10, 20),
        node("node_linear/Fusion/", "FusedMatMul", 41, 6),
        *(node("node_linearly", "Cast", 47, 1), node("node_linear_2", "Sub", 48, 1)),
        node("node_linear_quant", "MatMulInteger", 49, 1),
        run(40, 20),
    ]
    written.write_text(json.dumps(events))
    profile = GraphProfile()
    profile.read(written, graph=write_graph(tmp_path / "graph.onnx"), began_ns=7)
    found = {one.operator: one for one in profile.nodes}
    assert {name: (one.run, round(one.self_s * 1e6)) for name, one in found.items()} == {
        **{"If": (0, 3), "Add": (0, 3), "Mul": (0, 4)},
        **{"FusedMatMul": (1, 6), "Cast": (1, 1), "Sub": (1, 1), "MatMulInteger": (1, 1)},
    }
    for operator in ("FusedMatMul", "MatMulInteger"):
        assert found[operator].modules == MODULES
    assert not found["Cast"].modules and not found["Sub"].modules
    assert {one.shapes for one in profile.nodes} == {"[2, 3]"}
    assert len(profile.events) == 7 and profile.began_ns == 7


def test_a_program_is_profiled_and_runs_on(tmp_path: Path) -> None:
    settings = {"provider": None, "provider_options": None}
    runtime = OnnxRuntime.of(device="cpu", threads=1, settings=settings)
    program = runtime.open(write_graph(tmp_path / "graph.onnx"))
    feeds = {"x": numpy.full((2, 2), 3, numpy.float32)}
    with program.profiled() as (profile,):
        for _ in range(3):
            assert program.run(feeds)[0][0, 0] == 19
        assert not profile.nodes
    assert [one.run for one in profile.nodes if one.operator == "MatMul"] == [0, 1, 2]
    assert all(one.self_s >= 0 for one in profile.nodes)
    assert program.run(feeds)[0][0, 0] == 19
    with pytest.raises(ZeroDivisionError), program.profiled():
        raise ZeroDivisionError
    assert program.run(feeds)[0][0, 0] == 19
