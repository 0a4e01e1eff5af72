"""The engine torchao: which layers, how near the answers stay, how it is counted and stacked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from profiling import PROJECT
from profiling.costs.accounting import geometry_of
from profiling.costs.counting import FlopCounter
from profiling.costs.traffic import weight_sizes
from profiling.costs.twin import count
from profiling.engines.engine import Loading
from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.transformers.held_memory import read_weights
from profiling.errors import Unsupported
from profiling.machine.machine import package_versions
from profiling.models.loading import load_family
from profiling.models.quantization import Quantization, quantize_in_place, split_layers
from profiling.models.quantizers import TORCHAO
from profiling.models.weights import locate
from profiling.points.point import Point
from tests.composing import compose_point
from tests.tiny_models import (
    FAMILIES,
    answer,
    ask,
    build,
    encode,
    first_logits,
    generate,
    load,
    make_picture,
    make_workload,
)

torchao = pytest.importorskip("torchao", reason="requirements-torchao.txt is not installed")

# Relative L2 error of the first logits, as in the tests of bitsandbytes. Weights alone are rounded:
# compared with a plain model of the same weights, only rounding is left.
AGAINST_PLAIN = {"int4": 0.6, "int8": 0.15}
AGAINST_OWN_WEIGHTS = 1e-4
SIDES = (90, 120, 168)
BOTH = ("int8", "int4")
# Kernels of 4 bits in single precision take seconds a batch, those in bf16 do not.
FAST = {"int8": "int8", "int4": "[bf16,int4]"}


def chosen(name: str, stack: str | None = None) -> tuple[str, ...]:
    return f"optimization={stack or name}", f"optimization.{name}.engine=torchao"


def compose(family: str, name: str, stack: str | None = None, *more: str) -> Point:
    return compose_point(f"model={family}", *chosen(name, stack), *more)


def load_few_bits(family: str, name: str, stack: str | None = None) -> TransformersEngine:
    return load(family, *chosen(name, stack))


def wanted_layers(engine: TransformersEngine, name: str) -> list[str]:
    quantization = Quantization(bits=int(name[-1]), engine=TORCHAO)
    return split_layers(engine.family, quantization)[0]


def quantized_layers(network: nn.Module) -> dict[str, Any]:
    return {
        path: layer
        for path, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and is_traceable_wrapper_subclass(layer.weight)
    }


def relative_error(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def logits_of(engine: TransformersEngine, side: int = SIDES[0], count: int = 1) -> Tensor:
    asked = [
        ask(engine, "what is it?", make_picture(90 + 20 * i, 120, seed=i)) for i in range(count)
    ]
    return first_logits(engine, encode(engine, asked, side), side)


def stand_for(layer: nn.Linear) -> Tensor:
    """What a layer makes of ones at one input each: its weights, whatever they are stored as."""
    units = torch.eye(layer.in_features, dtype=layer.weight.dtype)
    bias = 0 if layer.bias is None else layer.bias
    with torch.no_grad():
        return (layer(units) - bias).T


@cache
def with_weights_of(family: str, name: str) -> TransformersEngine:
    """The plain model, its weights replaced by the dequantized ones."""
    plain = build(compose_point(f"model={family}"))
    for path, layer in quantized_layers(load_few_bits(family, name).network).items():
        plain.network.get_submodule(path).weight.data = stand_for(layer)
    return plain


def check_logits(family: str, name: str, side: int, count: int) -> None:
    found = logits_of(load_few_bits(family, name), side, count)
    assert relative_error(found, logits_of(load(family), side, count)) < AGAINST_PLAIN[name]
    own = logits_of(with_weights_of(family, name), side, count)
    assert relative_error(found, own) < AGAINST_OWN_WEIGHTS


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_logits_stay_near_the_plain_ones(family: str) -> None:
    check_logits(family, "int8", SIDES[0], 1)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_logits_stay_near_at_every_size(
    family: str, name: str, side: int, count: int
) -> None:
    check_logits(family, name, side, count)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_fits_is_quantized_and_the_head_is_not(family: str, name: str) -> None:
    model = load_few_bits(family, name, FAST[name])
    wanted = wanted_layers(model, name)
    assert sorted(quantized_layers(model.network)) == sorted(wanted)
    assert model.family.layout.parts.head not in wanted
    dense = dict(load(family).network.named_parameters())
    few = sum(dense[f"{path}.weight"].numel() for path in wanted)
    share = few / sum(values.numel() for values in dense.values())
    assert model.model.quantized is not None
    assert model.model.quantized.share == pytest.approx(share)
    assert share > 0.6


def test_eight_bits_need_no_blocks_and_four_do() -> None:
    point = replace(compose("fuyu", "int8"), weights="random")
    family = load_family(point, locate(point))
    eight, four = (
        split_layers(family, Quantization(bits=bits, engine=TORCHAO))[0] for bits in (8, 4)
    )
    # 2700 values a patch are no multiple of 64.
    assert set(eight) - set(four) == {family.layout.parts.vision}
    assert four == split_layers(family, Quantization(bits=4))[0]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_are_those_of_numbers_and_scales(family: str, name: str) -> None:
    stack = FAST[name]
    model = load_few_bits(family, name, stack)
    plain = load(family, f"optimization={'bf16' if 'bf16' in stack else 'baseline'}")
    expected = plain.model.parameter_bytes()
    for path in wanted_layers(model, name):
        dense = plain.network.get_submodule(path)
        expected += stored_bytes(dense, name) - dense.weight.nbytes
    assert model.model.parameter_bytes() == expected
    held = read_weights(model.network, model.loaded.parts())
    assert sum(row.value or 0 for row in held) == expected
    # What is moved in a step: parameters, a tied head once.
    buffers = {buffer.data_ptr(): buffer.nbytes for buffer in model.network.buffers()}
    assert sum(weight_sizes(model.network).values()) == expected - sum(buffers.values())


def stored_bytes(layer: nn.Linear, name: str) -> int:
    outputs, values = layer.out_features, layer.weight.numel()
    if name == "int8":
        # A byte for a number; for a row a scale in single precision and a zero in one byte.
        return values + 5 * outputs
    # Half a byte for a number; for 64 of them a scale and a zero in bf16.
    return values // 2 + values // 64 * 4


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_few_bits_stack_with_a_dtype(dtype: str, name: str) -> None:
    model = load_few_bits("llava", name, f"[{dtype},{name}]").model
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    assert model.dtype == dtypes[dtype]
    assert {layer.weight.dtype for layer in quantized_layers(model.network).values()} == {
        model.dtype
    }
    asked = [ask(model, "what is it?", make_picture(90, 60 + 60 * i, seed=i)) for i in range(2)]
    assert [len(row) for row in answer(model, asked, 90, 2)] == [2, 2]


@pytest.mark.parametrize("other", ["static_cache", "vision_cache", "split"])
@pytest.mark.parametrize("name", BOTH)
def test_what_moves_values_about_changes_no_answer(name: str, other: str) -> None:
    alone = load_few_bits("llava", name, f"[bf16,{name}]")
    stacked = load_few_bits("llava", name, f"[bf16,{name},{other}]")
    assert torch.equal(logits_of(stacked, count=2), logits_of(alone, count=2))
    assert stacked.model.parameter_bytes() == alone.model.parameter_bytes()
    assert stacked.model.quantized is not None and alone.model.quantized is not None
    assert stacked.model.quantized.share == alone.model.quantized.share


@pytest.mark.slow
def test_what_is_exported_is_not_quantized() -> None:
    model = load_few_bits("llava", "int8", "[int8,onnx_vision]")
    vision = (model.family.layout.parts.vision, *model.family.layout.parts.projector)
    kept = {path for path in wanted_layers(model, "int8") if not path.startswith(vision)}
    assert set(quantized_layers(model.network)) == kept
    assert relative_error(logits_of(model), logits_of(load("llava"))) < AGAINST_PLAIN["int8"]


@pytest.mark.parametrize("name", BOTH)
def test_made_in_memory_it_is_what_the_library_loads(name: str) -> None:
    """How the network of weights=random is quantized."""
    loaded = load_few_bits("llava", name, f"[bf16,{name}]")
    made = build(compose_point("model=llava", "optimization=bf16"))
    quantization = Quantization(bits=int(name[-1]), engine=TORCHAO)
    quantize_in_place(made.network, wanted_layers(made, name), quantization, torch.bfloat16)
    assert torch.equal(logits_of(made, count=2), logits_of(loaded, count=2))
    assert made.model.parameter_bytes() == loaded.model.parameter_bytes()


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_generation_costs_what_the_dense_one_does(family: str, name: str) -> None:
    model = load_few_bits(family, name, FAST[name])
    workload = make_workload(model, batch_size=2, max_new_tokens=3, count=2)
    with FlopCounter() as counter:
        workload.run(0)
    costs = count(model.family, geometry_of(model.family, workload.encode(0), 3))
    assert not counter.unknown
    dense = sum(filter(None, costs.by_phase().values()))
    assert counter.flops / dense == pytest.approx(1.0, abs=1e-3)


def test_the_record_names_the_package() -> None:
    assert package_versions()["torchao"] == torchao.__version__


def test_nothing_is_set_for_others_in_the_process() -> None:
    before = torch._inductor.config.coordinate_descent_tuning
    load_few_bits("llava", "int8")
    assert torch._inductor.config.coordinate_descent_tuning == before


# Compiled


@pytest.fixture
def forgetful() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def check_compiled(family: str, name: str, backend: str) -> None:
    stack = FAST[name].strip("[]")
    plain, compiled = (
        make_workload(model, batch_size=2, max_new_tokens=4, count=4)
        for model in (
            load_few_bits(family, name, FAST[name]),
            build(
                compose(
                    family, name, f"[{stack},compile]", f"optimization.compile.backend={backend}"
                )
            ),
        )
    )
    compiled.engine.settle(compiled)
    for index in range(2):
        assert torch.equal(generate(compiled, index), generate(plain, index))
    loading = Loading(load_s=1.0, peak_bytes=0, peak_source="a test")
    rows = {row.metric: row.value for row in compiled.engine.readings(compiled, loading)}
    assert rows["compiled_calls_per_token"] >= 1
    assert rows["num_recompilations"] == 0


def test_compiled_steps_change_no_answer(forgetful: None) -> None:
    check_compiled("llava", "int8", "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_steps_change_no_answer_of_any_family(
    family: str, name: str, forgetful: None
) -> None:
    check_compiled(family, name, "aot_eager")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.parametrize(("family", "name"), [("llava", "int4"), ("qwen25vl", "int8")])
def test_generated_code_changes_no_answer(family: str, name: str, forgetful: None) -> None:
    check_compiled(family, name, "inductor")


# Refused


def refuse(monkeypatch: pytest.MonkeyPatch, point: Point, reason: str) -> None:
    """The reason is given, and before anything is loaded."""
    loading = "profiling.engines.transformers.optimizations.optimization.load_model"
    monkeypatch.setattr(loading, lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(Unsupported, match=reason):
        build(point)


@pytest.mark.parametrize("name", BOTH)
def test_a_missing_package_is_unsupported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "profiling.engines.transformers.optimizations.optimization.find_spec",
        lambda package: None if package == "torchao" else find_spec(package),
    )
    reason = r"^torchao is not installed: pip install -r requirements-torchao\.txt$"
    refuse(monkeypatch, compose("llava", name), reason)
    assert (PROJECT / "requirements-torchao.txt").is_file()


@pytest.mark.parametrize("stack", ["int4", "[fp32,int4]", "[fp16,int4]"])
def test_four_bits_on_a_gpu_need_bf16(stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point = replace(compose("llava", "int4", stack), device="cuda:0")
    refuse(monkeypatch, point, r"4 bits on a GPU in bfloat16, not float(16|32): add bf16")


def test_four_bits_need_a_gpu_that_has_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    point = replace(compose("llava", "int4", "[bf16,int4]"), device="cuda:0")
    refuse(monkeypatch, point, r"need a GPU of compute capability 8\.0, not 7\.5")


def test_on_a_gpu_four_bits_are_packed_for_its_kernels() -> None:
    config = Quantization(bits=4, engine=TORCHAO).torchao_config(torch.device("cuda"))
    assert (config.group_size, config.int4_packing_format) == (64, "tile_packed_to_4d")


@pytest.mark.gpu
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_gpu_the_first_logits_stay_near_the_plain_ones(family: str, name: str) -> None:
    stack = f"[bf16,{name}]"
    few = build(replace(compose(family, name, stack), device="cuda:0"))
    plain = compose_point(f"model={family}", "optimization=bf16")
    plain_model = build(replace(plain, device="cuda:0"))
    assert relative_error(logits_of(few), logits_of(plain_model)) < AGAINST_PLAIN[name]
