"""The operators of one pass: by phase, by module and by what the module does."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from torch import nn

from profiling.engines.operators import OperatorTime, OperatorTrace
from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.transformers.operator_trace import name_layer
from profiling.errors import Unsupported
from profiling.metrics.declaration import PHASES
from profiling.records import reading
from profiling.runs.tracing import trace_pass
from tests.composing import compose_point
from tests.marking import slow_except
from tests.processors import copies_weights_in_16_bits
from tests.tiny_models import FAMILIES, build, load, make_workload


def trace(engine: TransformersEngine, *, length: int = 3) -> OperatorTrace:
    workload = make_workload(engine, batch_size=1, max_new_tokens=length, count=1)
    return engine.trace_operators(lambda: workload.run(0))


def layers_of(found: OperatorTrace, phase: str) -> dict[str, float]:
    times: dict[str, float] = defaultdict(float)
    for one in found.operators:
        if one.phase == phase:
            times[one.layer] += one.self_s
    return times


@pytest.mark.parametrize("family", slow_except(FAMILIES, "fuyu", "blip2_t5"))
def test_every_phase_has_its_layers(family: str) -> None:
    engine = load(family)
    # The library puts hooks of its own at the first pass.
    make_workload(engine, batch_size=1, max_new_tokens=1, count=1).run(0)
    before = count_hooks(engine)
    found = trace(engine)
    assert {one.phase for one in found.operators} <= set(PHASES)
    for phase in ("prefill", "decode"):
        assert set(layers_of(found, phase)) >= {"attention", "mlp", "norm", "head"}
    named = {one.module for one in found.operators if one.phase == "vision"}
    inside = engine.family.layout.parts.vision.split(".")[-1]
    assert all(inside in module for module in named) and ("vision" in engine.blind or named)
    assert count_hooks(engine) == before


def count_hooks(engine: TransformersEngine) -> int:
    modules = engine.network.modules()
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in modules)


@pytest.mark.parametrize(
    ("path", "kind", "layer"),
    [
        ("model.layers.0.self_attn", "LlamaAttention", "attention"),
        ("model.rotary_emb", "LlamaRotaryEmbedding", "attention"),
        ("model.layers.0.fc1", "Linear", "mlp"),
        ("encoder.block.0.layer.1.DenseReluDense", "T5DenseGatedActDense", "mlp"),
        ("model.embed_tokens", "Embedding", "embedding"),
        ("visual.merger.ln_q", "Qwen2RMSNorm", "norm"),
        ("model.layers.0", "LlamaDecoderLayer", "other"),
    ],
)
def test_layers_are_known_by_usual_names(path: str, kind: str, layer: str) -> None:
    assert name_layer(path, kind) == layer


def with_large_head(*optimizations: str) -> TransformersEngine:
    stack = ",".join(("bf16", *optimizations))
    engine = build(compose_point("model=qwen25vl", f"optimization=[{stack}]"))
    head: nn.Linear = engine.network.lm_head
    size = (60_000 - head.out_features, head.in_features)
    # The added rows give logits below every other, so that the same tokens are chosen.
    added = torch.zeros(size, dtype=torch.bfloat16)
    head.weight = nn.Parameter(torch.cat([head.weight.data, added]), requires_grad=False)
    return engine


def copies_of_the_head(found: OperatorTrace) -> list[OperatorTime]:
    return [
        one
        for one in found.operators
        if one.operator == "aten::copy_" and one.layer == "head" and "60000" in one.shapes
    ]


@pytest.mark.skipif(
    not copies_weights_in_16_bits(), reason="this processor's products in bfloat16 copy no weight"
)
def test_the_copy_of_the_heads_weight_is_named() -> None:
    (copy,) = copies_of_the_head(trace(with_large_head(), length=1))
    assert (copy.phase, copy.module, copy.calls) == ("prefill", "lm_head", 1)
    assert copy.describe().startswith("aten::copy_ [1, 128, 60000]")
    assert copies_of_the_head(trace(with_large_head("flat_head"), length=1)) == []


@pytest.mark.slow
def test_the_rows_are_the_slowest_of_each_phase() -> None:
    engine = load("qwen25vl")
    traced = trace_pass(make_workload(engine, batch_size=1, max_new_tokens=3, count=1))
    assert traced.chrome is not None and b'"traceEvents"' in traced.chrome
    rows = [row for row in traced.readings if row.metric == "operator_s" and row.phase == "decode"]
    values = [row.value for row in rows if row.value is not None]
    assert values == sorted(values, reverse=True) and 0 < len(values) <= 10
    assert [row.repeat for row in rows] == list(range(1, len(rows) + 1))


def test_a_picture_is_not_known_before_the_traced_pass() -> None:
    engine = build(compose_point("model=fuyu", "optimization=vision_cache"))
    workload = make_workload(engine, batch_size=1, max_new_tokens=1, count=1)
    workload.run(0)
    rows = [row for row in trace_pass(workload).readings if row.phase == "vision"]
    assert any("aten::addmm" in row.source for row in rows)


def test_an_engine_without_a_profiler_says_so() -> None:
    traced = ("optimization=compile", "optimization.compile.backend=aot_eager")
    engine = build(compose_point(*traced))
    with pytest.raises(Unsupported, match="compiled steps"):
        engine.trace_operators(lambda: None)
    found = trace_pass(make_workload(engine, batch_size=1, max_new_tokens=2, count=1))
    assert found.chrome is None
    assert {row.metric for row in found.readings} == {"operator_s", "layer_s"}
    assert all("compiled steps" in row.source for row in found.readings)
    assert reading("operator_s", value=1.0, status="measured", source="x").unit == "s"
