"""The dense twin against arithmetic, against what generate does, and against published sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

from profiling.costs.accounting import geometry_of
from profiling.costs.counting import FlopCounter
from profiling.costs.fvcore_counting import count_with_fvcore
from profiling.costs.twin import Twin, analytic_by_phase, count
from profiling.models.family import Family
from profiling.models.geometry import Geometry
from profiling.models.loading import LoadPlan, load_family, load_model
from profiling.models.weights import locate
from tests.costs.published_sizes import GFLOP, PARAMETERS
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, compose_point, load, make_workload, wrap

ATTENTIONS = ("sdpa", "eager")
EXACT = pytest.approx(1.0, abs=1e-3)
TEXT_TOKENS = 50


@cache
def read_family(name: str, weights: str) -> Family:
    point = compose_point(f"model={name}", f"weights={weights}")
    return load_family(point, locate(point))


@cache
def build_twin(name: str, weights: str, attention: str) -> Twin:
    return Twin(family=read_family(name, weights), attention=attention)


def square(family: Family, side: int, batch_size: int, new_tokens: int) -> Geometry:
    seen = family.processing.snap_side(side)
    return Geometry(
        sizes=((seen, seen),) * batch_size, prompt_tokens=seen + TEXT_TOKENS, new_tokens=new_tokens
    )


@contextmanager
def attention_of(network: Any, attention: str) -> Iterator[None]:
    """The network with another implementation of attention, for a while."""
    before = network.config._attn_implementation
    network.set_attn_implementation(attention)
    yield
    network.set_attn_implementation(before)


def ratios(twin: Twin, geometry: Geometry) -> Iterator[float]:
    """Counted over analytic, for each phase and for every step of decoding."""
    costs = twin.count(geometry, steps=range(1, geometry.new_tokens))
    assert not costs.uncounted
    counted, analytic = costs.by_phase(), analytic_by_phase(twin.family, geometry)
    for phase, flops in counted.items():
        expected = analytic[phase]
        assert (flops is None) == (expected is None)
        if flops is not None and expected is not None:
            yield flops / expected
    assert len(costs.steps) == geometry.new_tokens - 1
    for step, tally in costs.steps.items():
        yield tally.flops / twin.family.costs.decode_step_flops(geometry, step)


@pytest.mark.parametrize(
    ("name", "attention"),
    slow_except(
        [(name, attention) for name in FAMILIES for attention in ATTENTIONS],
        *((name, "sdpa") for name in FAMILIES if name != "llava"),
        ("llava", "eager"),
    ),
)
def test_counts_agree_with_arithmetic(name: str, attention: str) -> None:
    twin = build_twin(name, "tiny", attention)
    geometry = square(twin.family, 168, 2, new_tokens=3)
    assert all(ratio == EXACT for ratio in ratios(twin, geometry))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("side", [112, 224, 448])
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("weights", ["tiny", "random"])
@pytest.mark.parametrize("name", FAMILIES)
def test_counts_agree_with_arithmetic_at_any_size(
    name: str, weights: str, attention: str, side: int, batch_size: int
) -> None:
    twin = build_twin(name, weights, attention)
    geometry = square(twin.family, side, batch_size, new_tokens=6)
    assert all(ratio == EXACT for ratio in ratios(twin, geometry))


@pytest.mark.parametrize(
    "name", [n for n in FAMILIES if read_family(n, "tiny").processing.keeps_aspect_ratio]
)
def test_pictures_of_a_batch_may_differ_in_size(name: str) -> None:
    twin = build_twin(name, "tiny", "sdpa")
    one = twin.family.processing.multiple
    sizes = ((one, 9 * one), (5 * one, 4 * one), (7 * one, 3 * one))
    geometry = Geometry(sizes=sizes, prompt_tokens=90, new_tokens=2)
    assert all(ratio == EXACT for ratio in ratios(twin, geometry))


def test_the_first_token_needs_no_decoding() -> None:
    family = read_family("llava", "tiny")
    costs = count(family, square(family, 112, 1, new_tokens=1))
    assert costs.by_phase()["decode"] is None
    assert not costs.steps


@pytest.mark.parametrize("name", ["blip2_t5", "llava"])
def test_the_first_and_the_last_step_give_the_sum_of_all(name: str) -> None:
    twin = build_twin(name, "tiny", "sdpa")
    geometry = square(twin.family, 112, 2, new_tokens=5)
    costs = twin.count(geometry, steps=range(1, 5))
    assert costs.decode_flops == sum(tally.flops for tally in costs.steps.values())


@pytest.mark.parametrize(
    ("name", "attention"),
    slow_except(
        [*((name, "sdpa") for name in FAMILIES), ("llava", "eager")],
        ("blip2_t5", "sdpa"),
        ("qwen25vl", "sdpa"),
        ("llava", "eager"),
    ),
)
def test_generate_does_what_the_twin_is_counted_for(name: str, attention: str) -> None:
    """Everything in a real generation, padding and all, nothing more and nothing less."""
    engine = load(name)
    workload = make_workload(engine, batch_size=2, max_new_tokens=4, count=2)
    with attention_of(engine.network, attention), FlopCounter() as counter:
        workload.run(0)
    costs = count(engine.family, geometry_of(engine.family, workload.encode(0), 4))
    assert not counter.unknown
    assert counter.flops / sum(filter(None, costs.by_phase().values())) == EXACT


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_four_bit_generation_costs_what_the_dense_one_does(name: str) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from transformers import BitsAndBytesConfig

    point = compose_point(f"model={name}")
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        llm_int8_skip_modules=["lm_head", "qformer", "language_projection", "vision_embed_tokens"],
    )
    plan = LoadPlan(
        dtype=None, options={"quantization_config": quantization, "device_map": {"": "cpu"}}
    )
    engine = wrap(load_model(point, plan))
    workload = make_workload(engine, batch_size=2, max_new_tokens=3, count=2)
    with FlopCounter() as counter:
        workload.run(0)
    costs = count(engine.family, geometry_of(engine.family, workload.encode(0), 3))
    assert any(operator.startswith("bitsandbytes::") for operator in counter.by_operator)
    assert not counter.unknown
    assert counter.flops / sum(filter(None, costs.by_phase().values())) == EXACT


@pytest.mark.parametrize("name", FAMILIES)
def test_full_size_has_the_published_number_of_parameters(name: str) -> None:
    network = build_twin(name, "random", "sdpa").network
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "side", "prompt", "phases", "gflop"), GFLOP)
def test_full_size_arithmetic_agrees_with_an_independent_count(
    name: str, side: int, prompt: int, phases: tuple[str, ...], gflop: float
) -> None:
    family = read_family(name, "random")
    geometry = Geometry(sizes=((side, side),), prompt_tokens=prompt, new_tokens=1)
    flops = analytic_by_phase(family, geometry)
    assert sum(flops[phase] or 0 for phase in phases) / 1e9 == pytest.approx(gflop, abs=0.5)


def test_full_size_text_encoder_agrees_with_an_independent_count() -> None:
    family = read_family("blip2_t5", "random")
    geometry = Geometry(sizes=((224, 224),), prompt_tokens=32 + 50, new_tokens=1)
    assert family.costs.text_encoder_flops(geometry) / 1e9 == pytest.approx(191, abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_fvcore_agrees_wherever_it_can_trace(name: str) -> None:
    family = read_family(name, "tiny")
    geometry = square(family, 168, 2, new_tokens=3)
    counted = count(family, geometry).by_phase()
    for phase, flops in count_with_fvcore(family, geometry):
        assert isinstance(flops, int), flops
        assert flops / (counted[phase] or math.nan) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_cache_has_the_elements_that_the_configuration_says(name: str) -> None:
    twin = build_twin(name, "tiny", "sdpa")
    stack = twin.family.costs.decoder_stack
    cache = count(twin.family, square(twin.family, 112, 1, new_tokens=2)).cache
    assert cache.elements == 2 * stack.layers * stack.key_width
    assert cache.encoded_elements == (cache.elements if twin.family.layout.encoder_decoder else 0)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_weight_is_read_in_one_phase_or_looked_up(name: str) -> None:
    twin = build_twin(name, "tiny", "sdpa")
    costs = count(twin.family, square(twin.family, 112, 1, new_tokens=2))
    read = costs.vision.weights | costs.prefill.weights
    read |= costs.projector.weights if costs.projector else frozenset()
    unread = {path for path, _ in twin.network.named_parameters()} - read
    looked_up = ("embed", "shared.weight", "query_tokens", "relative_attention_bias")
    assert all(any(word in path for word in looked_up) for path in unread), unread
    assert costs.steps[1].weights <= costs.prefill.weights
