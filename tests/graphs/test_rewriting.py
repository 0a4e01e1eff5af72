"""Graphs that are rewritten after their export: quantized, and as the runtime fuses them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnx.parser
import onnxruntime
import pytest
import torch

from profiling.graphs.check import ExportFailed, distance, rewriting
from profiling.graphs.export import export_vision
from profiling.graphs.feeds import feeds_of, noise
from profiling.graphs.layouts import save, values_of
from profiling.graphs.optimize import optimize_vision
from profiling.graphs.quantize import quantize_vision, rewrite_weights
from profiling.graphs.vision_chain import OnnxVision, load_vision, read_check
from profiling.models.model import Model
from profiling.runtimes.providers import CPU_PROVIDER
from tests.graphs.stressed import stressed
from tests.marking import slow_except
from tests.tiny_models import answer, ask_unevenly, load

LEVELS = onnxruntime.GraphOptimizationLevel


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Model, Path]]:
    @cache
    def make(family: str) -> tuple[Model, Path]:
        model = stressed(family)
        folder = tmp_path_factory.mktemp(family)
        return model, export_vision(
            model, folder, layout="single", parts=1, simplify=False, provider=None
        )

    return make


@pytest.fixture(params=["fuyu"])
def copied(
    request: pytest.FixtureRequest, export: Callable[[str], tuple[Model, Path]], tmp_path: Path
) -> tuple[Model, Path]:
    model, path = export(request.param)
    shutil.copytree(path.parent, tmp_path / "copied")
    return model, tmp_path / "copied" / path.name


def open_vision(model: Model, path: Path) -> OnnxVision:
    return load_vision(path, model=model, threads=1, provider=None, provider_options={})


def embed_with(vision: OnnxVision) -> torch.Tensor:
    family = vision.family
    size = (7 * family.processing.multiple, 5 * family.processing.multiple)
    inputs = noise(family, [size], seed=7, device=torch.device("cpu"))
    return vision.chain.run(feeds_of(family, inputs))


def list_nodes(path: Path) -> list[onnx.NodeProto]:
    return list(onnx.load(str(path), load_external_data=False).graph.node)


def level_of(vision: OnnxVision) -> Any:
    (session,) = vision.chain.sessions
    return session.get_session_options().graph_optimization_level


@pytest.mark.slow
@pytest.mark.parametrize("copied", ["llava"], indirect=True)
def test_what_the_runtime_made_of_a_graph_is_kept(copied: tuple[Model, Path]) -> None:
    model, path = copied
    before, plain = read_check(path), open_vision(model, path)
    domains = {node.domain for node in list_nodes(path)}
    expected = embed_with(plain)
    optimize_vision(model, path, provider=None)
    assert {node.domain for node in list_nodes(path)} - domains == {"com.microsoft"}
    record, vision = read_check(path), open_vision(model, path)
    assert record["optimized"] == CPU_PROVIDER
    assert record["before"] == [{name: before[name] for name in ("checked", "bytes")}]
    stored = sum(one.stat().st_size for one in path.parent.glob("vision_model.onnx*"))
    assert record["bytes"] == stored
    assert len(record["checked"]) == len(before["checked"])
    assert all(one["relative_l2"] < 1e-5 for one in record["checked"])
    assert record["make_s"] > before["make_s"]
    assert (level_of(plain), level_of(vision)) == (LEVELS.ORT_ENABLE_ALL, LEVELS.ORT_DISABLE_ALL)
    assert distance(embed_with(vision), expected)["relative_l2"] < 1e-5


@pytest.mark.parametrize("copied", slow_except(["fuyu", "llava"], "fuyu"), indirect=True)
@pytest.mark.parametrize(("kind", "share", "furthest"), [("int8", 0.45, 0.3), ("int4", 0.36, 0.5)])
def test_few_bits_and_what_the_runtime_makes_of_them(
    kind: str, share: float, furthest: float, copied: tuple[Model, Path]
) -> None:
    model, path = copied
    whole = read_check(path)["bytes"]
    quantize_vision(model, path, kind=kind, provider=None)
    record = read_check(path)
    assert (record["quantized"], record["limit_relative_l2"]) == (kind, None)
    assert record["bytes"] < share * whole
    assert all(1e-4 < one["relative_l2"] < furthest for one in record["checked"])
    expected = embed_with(open_vision(model, path))
    optimize_vision(model, path, provider=None)
    record = read_check(path)
    assert (record["quantized"], record["optimized"]) == (kind, CPU_PROVIDER)
    assert [len(one["checked"]) for one in record["before"]] == [4, 4]
    assert record["bytes"] < share * whole
    assert distance(embed_with(open_vision(model, path)), expected)["relative_l2"] < 0.05


def test_sums_of_bytes_are_right_on_every_processor(tmp_path: Path) -> None:
    """Large weights of one sign, where sums that are cut off are half of what is right."""
    weights = numpy.random.default_rng(0).uniform(0.9, 1.0, (64, 32)).astype(numpy.float32)
    given = numpy.random.default_rng(1).uniform(0.9, 1.0, (4, 64)).astype(numpy.float32)
    written = "product (float[N, 64] x) => (float[N, 32] y) { y = MatMul (x, w) }"
    graph = onnx.parser.parse_graph(written)
    graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    opsets = [onnx.helper.make_opsetid("", 18)]
    path = tmp_path / "product.onnx"
    save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    rewrite_weights(path, kind="int8")
    (made,) = onnxruntime.InferenceSession(path).run(None, {"x": given})
    assert numpy.abs(made / (given @ weights) - 1).max() < 0.01


def test_what_is_too_far_off_is_not_left_behind(copied: tuple[Model, Path]) -> None:
    model, path = copied
    with (
        pytest.raises(ExportFailed, match=r"relative L2.*deleted"),
        rewriting(model, path, provider=None, limit_relative_l2=1e-12),
    ):
        pass
    assert not path.exists() and not values_of(path).exists()


def test_what_fails_is_not_left_behind(copied: tuple[Model, Path]) -> None:
    model, path = copied
    with (
        pytest.raises(OSError, match="full"),
        rewriting(model, path, provider=None, quantized="int2"),
    ):
        raise OSError("the disk is full")
    assert not path.exists() and not values_of(path).exists()


@pytest.mark.parametrize(
    ("kind", "nearest", "furthest"),
    [(None, 0, 1e-5), pytest.param("int4", 1e-4, 0.5, marks=pytest.mark.slow)],
)
def test_a_model_in_brain_floats_is_held_against_itself_in_single_precision(
    kind: str | None, nearest: float, furthest: float, tmp_path: Path
) -> None:
    model = stressed("fuyu", dtype="bf16")
    path = export_vision(model, tmp_path, layout="single", parts=1, simplify=False, provider=None)
    if kind is not None:
        quantize_vision(model, path, kind=kind, provider=None)
    optimize_vision(model, path, provider=None)
    assert all(nearest < one["relative_l2"] < furthest for one in read_check(path)["checked"])
    assert {value.dtype for value in model.network.parameters()} == {torch.bfloat16}


def test_an_optimized_graph_answers_as_the_plain_model_does() -> None:
    setting = "optimization.onnx_vision.optimize=true"
    plain = load("fuyu", "optimization=fp32")
    model = load("fuyu", "optimization=[fp32,onnx_vision]", setting)
    asked = ask_unevenly(plain, 4)
    assert answer(model, asked, 120) == answer(plain, asked, 120)
    vision: Any = model.network.get_submodule(model.family.layout.parts.vision)
    assert level_of(vision) == LEVELS.ORT_DISABLE_ALL
