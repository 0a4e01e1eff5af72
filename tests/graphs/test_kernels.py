"""In what the layout `half` computes: the runtime is asked, and the graph is made accordingly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, TensorProto

from profiling.graphs import export as onnx_export
from profiling.graphs.check import distance, in_single_precision
from profiling.graphs.export import computing_dtype, export_vision
from profiling.graphs.feeds import feeds_of, noise
from profiling.graphs.kernels import has_kernels, make_probe
from profiling.graphs.layouts import values_of
from profiling.graphs.vision_chain import load_vision, read_check
from profiling.models.patch_product import PatchProduct
from profiling.models.tower import PatchTower
from profiling.runtimes.providers import CPU_PROVIDER, CUDA_PROVIDER
from tests.graphs.stressed import stressed
from tests.marking import slow_except
from tests.tiny_models import FAMILIES

HALF, SINGLE = TensorProto.BFLOAT16, TensorProto.FLOAT
# What only says how long things are is left to the CPU by every provider.
ABOUT_SHAPES = {"Shape"}

Pretend = Callable[[bool], None]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """A runtime that has kernels or not; what it cannot run in fact is not checked."""

    def choose(has: bool) -> None:
        monkeypatch.setattr(onnx_export, "has_kernels", lambda provider, dtype: has)
        monkeypatch.setattr(
            onnx_export, "check_export", lambda *_, **facts: {"computes_in": str(facts["computed"])}
        )

    return choose


def test_the_probe_is_a_graph_that_runs_where_there_are_kernels() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        onnx.checker.check_model(make_probe(dtype), full_check=True)
    assert has_kernels(CPU_PROVIDER, torch.float32)


def test_the_cpu_has_no_bf16() -> None:
    assert not has_kernels(CPU_PROVIDER, torch.bfloat16)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_is_not_there_has_nothing() -> None:
    assert not has_kernels("VitisAIExecutionProvider", torch.float32)


@pytest.mark.parametrize(
    ("dtype", "layout", "has", "computed"),
    [
        ("bf16", "half", True, torch.bfloat16),
        ("bf16", "half", False, torch.float32),
        ("bf16", "single", True, torch.float32),
        ("fp16", "half", False, torch.float16),
        ("fp32", "half", True, torch.float16),
    ],
)
def test_what_is_computed_in_follows_the_answer(
    dtype: str, layout: str, has: bool, computed: torch.dtype, pretend: Pretend
) -> None:
    pretend(has)
    assert computing_dtype(stressed("fuyu", dtype=dtype), layout, None) == computed


def types_in(model: ModelProto) -> dict[str, int]:
    """What each value of a graph holds, with shapes inferred strictly."""
    known = onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    ).graph
    named = [*known.value_info, *known.input, *known.output]
    stored = {value.name: value.data_type for value in known.initializer}
    return {value.name: value.type.tensor_type.elem_type for value in named} | stored


def operators(model: ModelProto, element: int) -> dict[str, int]:
    """How often each operator takes or gives values of a kind."""
    types = types_in(model)
    found: dict[str, int] = {}
    for node in model.graph.node:
        if element in {types.get(name) for name in [*node.input, *node.output]}:
            found[node.op_type] = found.get(node.op_type, 0) + 1
    return found


def export_in_bf16(family: str, folder: Path, pretend: Pretend) -> tuple[Any, Path]:
    pretend(True)
    model = stressed(family, dtype="bf16")
    path = export_vision(model, folder, layout="half", parts=1, simplify=False, provider=None)
    assert read_check(path)["computes_in"] == "torch.bfloat16"
    return model, path


def check_bf16_graph(family: str, folder: Path, pretend: Pretend) -> None:
    model, path = export_in_bf16(family, folder, pretend)
    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load(str(path))
    tower = model.family.layout.tower(model.network)
    single, half = operators(graph, SINGLE), operators(graph, HALF)
    asked = {node.op_type for node in make_probe(torch.bfloat16).graph.node}
    assert half.keys() <= asked | ABOUT_SHAPES
    # In single precision: each softmax, and of positions the two products that interpolate them.
    assert ("Softmax" in single) == (len(tower.blocks) > 0)
    assert "Softmax" not in half
    assert single.get("MatMul", 0) == (2 if isinstance(tower, PatchTower) else 0)
    assert not single.keys() & {"Gemm", "LayerNormalization", "Erf", "Sigmoid", "Conv"}
    large = {one.data_type for one in graph.graph.initializer if len(one.dims) == 2}
    assert large == {HALF}
    ends = [*graph.graph.input[:1], *graph.graph.output]
    assert {one.type.tensor_type.elem_type for one in ends} == {HALF}
    values = sum(value.numel() for value in tower.parameters())
    assert values_of(path).stat().st_size < 2.2 * values


@pytest.mark.slow
@pytest.mark.parametrize("family", slow_except(["fuyu", "llava"], "fuyu"))
def test_the_graph_computes_in_bf16(family: str, tmp_path: Path, pretend: Pretend) -> None:
    check_bf16_graph(family, tmp_path, pretend)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted({*FAMILIES} - {"fuyu", "llava"}))
def test_every_graph_computes_in_bf16(family: str, tmp_path: Path, pretend: Pretend) -> None:
    check_bf16_graph(family, tmp_path, pretend)


@pytest.mark.parametrize("family", slow_except(FAMILIES, "fuyu", "qwen25vl"))
def test_in_bf16_a_tower_does_what_it_did(family: str) -> None:
    model = stressed(family, dtype="bf16")
    inputs = noise(
        model.family, [(6 * model.family.processing.multiple,) * 2], seed=3, device=model.device
    )
    with torch.inference_mode(), in_single_precision(model):
        tower = model.family.layout.tower(model.network).eval()
        halved = onnx_export.narrowed(tower, torch.bfloat16)
        pixels, *extras = feeds_of(model.family, inputs).values()
        found = halved(pixels.bfloat16(), *extras)
        right = tower(pixels.bfloat16().float(), *extras)
        if isinstance(tower, PatchTower):
            product = PatchProduct(convolution=tower.patches)
            torch.testing.assert_close(product(pixels), tower.patches(pixels))
    assert found.dtype == torch.bfloat16
    assert distance(found.float(), right)["relative_l2"] < 0.1


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_computes_in_bf16(family: str, tmp_path: Path) -> None:
    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        pytest.skip("the installed onnxruntime has no CUDA")
    model = stressed(family, dtype="bf16")
    model.network.cuda()
    model.device = torch.device("cuda", 0)
    path = export_vision(model, tmp_path, layout="half", parts=1, simplify=False, provider=None)
    record = read_check(path)
    assert has_kernels(CUDA_PROVIDER, torch.bfloat16) == (record["computes_in"] == "bfloat16")
    vision = load_vision(path, model=model, threads=1, provider=None, provider_options={})
    inputs = noise(
        model.family, [(6 * model.family.processing.multiple,) * 2], seed=3, device=model.device
    )
    inputs["pixel_values"] = inputs["pixel_values"].bfloat16()
    found = vision.chain.run(feeds_of(model.family, inputs))
    assert (found.dtype, found.device.type) == (torch.bfloat16, "cuda")
    with torch.inference_mode():
        right = model.family.layout.embed(model.network, inputs)
    assert distance(found.float(), right.float())["relative_l2"] < 0.1
