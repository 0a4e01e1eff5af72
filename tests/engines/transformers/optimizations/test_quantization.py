"""Quantized weights: which layers, how near the answers stay, and how it is counted."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import bitsandbytes
import pytest
import torch
from torch import Tensor, nn

from profiling.costs.counting import FlopCounter
from profiling.engines.engine import Loading
from profiling.engines.transformers.engine import TransformersEngine
from profiling.errors import ConfigError, Unsupported
from profiling.models.loading import LoadPlan, load_family, load_model
from profiling.models.quantization import Quantization, computes_in, quantize_in_place, split_layers
from profiling.models.weights import locate
from tests.composing import compose_point
from tests.marking import slow_except
from tests.processors import lack_bf16_instructions
from tests.tiny_models import (
    FAMILIES,
    answer,
    ask,
    build,
    encode,
    first_logits,
    load,
    make_picture,
    make_workload,
)

# Relative L2 error of the first logits, compared with the plain model: by optimization.
AGAINST_PLAIN = {"int4": 0.6, "int8": 0.15}
# Compared with a plain model that has the dequantized weights, so that only the arithmetic differs:
# by what quantized layers compute in.
AGAINST_OWN_WEIGHTS = {"float32": 1e-4, "bfloat16": 0.03, "int8": 0.1}
LAYERS = (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt)
SIDES = (90, 120, 168)


def relative_error(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def asked_logits(engine: TransformersEngine, side: int, count: int) -> Tensor:
    asked = [
        ask(engine, "what is it?", make_picture(90 + 20 * i, 120, seed=i)) for i in range(count)
    ]
    return first_logits(engine, encode(engine, asked, side), side)


def quantized_layers(network: nn.Module) -> dict[str, Any]:
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, LAYERS)}


@cache
def with_weights_of(family: str, name: str) -> TransformersEngine:
    """The plain model with dequantized weights, taken before a forward may pack them."""
    plain = build(compose_point(f"model={family}"))
    quantized = build(compose_point(f"model={family}", f"optimization={name}"))
    for path, layer in quantized_layers(quantized.network).items():
        dense = plain.network.get_submodule(path)
        dense.weight.data = dequantize(layer).to(dense.weight.dtype)
    return plain


def dequantize(layer: Any) -> Tensor:
    weight = layer.weight
    if isinstance(layer, bitsandbytes.nn.Linear4bit):
        assert not getattr(weight.quant_state, "packing_format_for_cpu", False)
        return bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
    return weight.data * weight.SCB.unsqueeze(1) / 127


@pytest.mark.parametrize(
    ("family", "name"),
    slow_except(product(FAMILIES, ("int4", "int8")), ("blip2_t5", "int8"), ("llava", "int4")),
)
def test_what_fits_is_quantized_and_the_head_is_not(family: str, name: str) -> None:
    model = load(family, f"optimization={name}").model
    wanted, left_out = split_layers(model.family, Quantization(bits=int(name[-1])))
    assert sorted(quantized_layers(model.network)) == sorted(wanted)
    assert model.family.layout.parts.head in left_out
    assert model.quantized is not None and model.quantized.share > 0.6
    assert sorted(model.quantized.names) == sorted(wanted)
    assert model.parameter_bytes() < 0.6 * load(family).model.parameter_bytes()


@pytest.mark.parametrize(
    ("family", "name"),
    slow_except(product(FAMILIES, ("int4", "int8")), ("blip2_opt", "int8"), ("qwen25vl", "int4")),
)
def test_the_first_logits_stay_near_the_plain_ones(family: str, name: str) -> None:
    check_logits(load(family, f"optimization={name}"), family, name, SIDES[0], 1)


@pytest.mark.parametrize("family", slow_except(FAMILIES, "qwen25vl"))
def test_without_bf16_instructions_int4_computes_in_the_dtype_asked_for(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack_bf16_instructions(monkeypatch)
    engine = build(compose_point(f"model={family}", "optimization=int4"))
    assert computed_in("int4") == "float32"
    check_logits(engine, family, "int4", SIDES[0], 1)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["int4", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_logits_stay_near_at_every_size(
    family: str, name: str, side: int, count: int
) -> None:
    check_logits(load(family, f"optimization={name}"), family, name, side, count)


def computed_in(name: str) -> str:
    """What quantized layers compute in on this processor, where float32 is asked for."""
    return computes_in(
        torch.float32, torch.device("cpu"), Quantization(bits=int(name[-1]))
    ).split()[-1]


def check_logits(engine: TransformersEngine, family: str, name: str, side: int, count: int) -> None:
    found = asked_logits(engine, side, count)
    assert relative_error(found, asked_logits(load(family), side, count)) < AGAINST_PLAIN[name]
    own = asked_logits(with_weights_of(family, name), side, count)
    assert relative_error(found, own) < AGAINST_OWN_WEIGHTS[computed_in(name)]


# Stacks with the families of the fast suite.
STACKS = {
    "[bf16,int4]": ("blip2_opt",),
    "[fp16,int4]": ("qwen25vl",),
    "[fp32,int8]": ("fuyu",),
    "[bf16,int8]": ("llava",),
}


@pytest.mark.parametrize(
    ("family", "stack"),
    [
        pytest.param(family, stack, marks=() if family in STACKS[stack] else pytest.mark.slow)
        for family in FAMILIES
        for stack in STACKS
    ],
)
def test_quantization_stacks_with_a_dtype(family: str, stack: str) -> None:
    model = load(family, f"optimization={stack}").model
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    assert model.dtype == dtypes[stack[1:5]]
    assert quantized_layers(model.network)
    asked = [ask(model, "what is it?", make_picture(90, 60 + 60 * i, seed=i)) for i in range(2)]
    assert [len(row) for row in answer(model, asked, 90, 3)] == [3, 3]


@pytest.mark.parametrize(("name", "bits"), [("int4", 4), ("int8", 8)])
def test_made_in_memory_it_is_what_the_library_loads(name: str, bits: int) -> None:
    """How the network of weights=random is quantized."""
    loaded = load("llava", f"optimization={name}")
    made = build(compose_point("model=llava"))
    quantized, _ = split_layers(made.family, Quantization(bits=bits))
    options = {"double": False} if bits == 4 else {"outlier_threshold": 6.0}
    quantize_in_place(made.network, quantized, Quantization(bits=bits, **options), torch.float32)
    assert torch.equal(asked_logits(made, 90, 2), asked_logits(loaded, 90, 2))


def test_arithmetic_is_in_the_dtype_of_the_checkpoint_where_none_is_asked_for() -> None:
    point = compose_point("model=llava", "optimization=int4")
    model = load_model(point, LoadPlan(dtype=torch.bfloat16, quantization=Quantization(bits=4)))
    assert {layer.compute_dtype for layer in quantized_layers(model.network).values()} == {
        torch.bfloat16
    }
    plain = build(point)
    assert {layer.compute_dtype for layer in quantized_layers(plain.network).values()} == {
        torch.float32
    }


def test_scales_of_scales_take_less_room() -> None:
    point = compose_point("model=llava", "optimization=int4", "optimization.int4.double=true")
    double = build(point)
    single = load("llava", "optimization=int4")
    assert double.model.parameter_bytes() < single.model.parameter_bytes()


def test_two_quantizations_are_a_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match="int4 and int8 both set the quantization"):
        compose_point("optimization=[int4,int8]")


def test_a_missing_package_is_said_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = "profiling.engines.transformers.optimizations.optimization"
    monkeypatch.setattr(f"{where}.find_spec", lambda _: None)
    monkeypatch.setattr(f"{where}.load_model", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(Unsupported, match=r"bitsandbytes is not installed: pip install -r"):
        build(compose_point("optimization=int4"))


@pytest.mark.parametrize("name", ["int4", "int8"])
def test_products_of_quantized_layers_are_counted_as_dense_ones(name: str) -> None:
    def count(engine: TransformersEngine) -> int:
        inputs = encode(engine, [ask(engine, "what?", make_picture(90, 120))], 90)
        with FlopCounter() as counter:
            first_logits(engine, inputs, 90)
        assert not counter.unknown
        return counter.flops

    assert count(load("qwen25vl", f"optimization={name}")) == count(load("qwen25vl"))


@pytest.mark.parametrize("name", ["int4", "int8"])
def test_the_record_says_what_it_took(name: str) -> None:
    engine = load("fuyu", f"optimization={name}")
    workload = make_workload(engine, batch_size=1, max_new_tokens=2, count=1)
    loading = Loading(load_s=1.0, peak_bytes=123, peak_source="a test")
    rows = {row.metric: row for row in engine.readings(workload, loading)}
    made = engine.model.quantized
    assert made is not None
    assert rows.keys() == {"make_s", "make_peak_bytes", "quantized_share"}
    assert rows["make_s"].value == made.made_s > 0
    assert rows["make_peak_bytes"].value == 123


def test_widths_that_kernels_cannot_take_are_left_out() -> None:
    family = load_family(compose_point("model=fuyu"), locate(compose_point("model=fuyu")))
    quantized, left_out = split_layers(family, Quantization(bits=8))
    # 2700 values a patch are no multiple of 64.
    assert family.layout.parts.vision in left_out
    assert not set(quantized) & set(left_out)
    point = replace(compose_point("model=fuyu"), weights="random")
    public_family = load_family(point, locate(point))
    public, public_left_out = split_layers(public_family, Quantization(bits=8))
    assert family.layout.parts.vision in public_left_out and len(public) > len(quantized)
