"""Two optimizations at once: each does its own, and the answers are those of one of them alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch

from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.transformers.optimizations.optimization import Quantized, read_stack
from profiling.engines.transformers.optimizations.vision_cache import VisionCache
from profiling.graphs.check import distance
from profiling.models.loading import LoadPlan, load_model
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import (
    FAMILIES,
    answer,
    ask_unevenly,
    encode,
    first_logits,
    load,
    make_workload,
    wrap,
)

SIDE = 120
# What a stack is compared with, the relative L2 error that its first logits may have beside it, and
# the family of the fast suite.
BESIDE = {
    "split,onnx_vision": ("baseline", 1e-5, "fuyu"),
    "split,vision_cache": ("baseline", 1e-5, "llava"),
    "split,int8": ("int8", 1e-5, "blip2_opt"),
    "split,int4": ("int4", 1e-5, "blip2_t5"),
    "onnx_vision,vision_cache": ("baseline", 1e-5, "qwen25vl"),
    "vision_cache,int8": ("int8", 1e-5, "fuyu"),
    "onnx_vision,static_cache": ("baseline", 1e-5, "fuyu"),
    # Inputs that differ in their last bits may be rounded to other whole numbers.
    "onnx_vision,int8": ("int8 behind the vision part", 1e-2, "qwen25vl"),
    "onnx_vision,compile": ("baseline", 1e-5, "fuyu"),
}
FAST = ("split,vision_cache", "vision_cache,int8", "onnx_vision,static_cache", "split,int4")
SETTINGS = {"compile": ("optimization.compile.backend=aot_eager",)}


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    yield
    torch._dynamo.reset()


@cache
def load_beside(family: str, name: str) -> TransformersEngine:
    if not name.endswith("behind the vision part"):
        return load(family, f"optimization={name}")
    point = compose_point(f"model={family}", f"optimization={name.split()[0]}")
    (only,) = read_stack(point.optimization_settings)
    assert isinstance(only, Quantized)
    parts = load(family).family.layout.parts
    whole = (parts.vision, *parts.projector)
    plan = LoadPlan(dtype=None, quantization=only.quantization, whole=whole)
    return wrap(load_model(point, plan))


@pytest.mark.parametrize("stack", slow_except(BESIDE, *FAST))
def test_two_at_once(stack: str) -> None:
    check_stack(stack, BESIDE[stack][2])


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stack", BESIDE)
def test_two_at_once_in_every_family(stack: str, family: str) -> None:
    check_stack(stack, family)


def check_stack(stack: str, family: str) -> None:
    name, limit, _ = BESIDE[stack]
    beside = load_beside(family, name)
    settings = [one for part in stack.split(",") for one in SETTINGS.get(part, ())]
    engine = load(family, f"optimization=[{stack}]", *settings)
    if engine.loaded.fixed_cache is not None:
        engine.loaded.fixed_cache.start_afresh(engine.network)
    asked = ask_unevenly(beside, 4)
    inputs = encode(beside, asked, SIDE)
    right, found = (first_logits(one, inputs, SIDE) for one in (beside, engine))
    assert distance(found, right)["relative_l2"] < limit
    expected = answer(beside, asked, SIDE)
    # The second time finds what the first has left: keys, compiled code, pictures.
    assert [answer(engine, asked, SIDE) for _ in range(2)] == [expected, expected]
    check_each_is_there(engine, stack)
    check_phases(engine)


def check_each_is_there(engine: TransformersEngine, stack: str) -> None:
    names = stack.split(",")
    vision = engine.network.get_submodule(engine.family.layout.parts.vision)
    fixed, build = engine.loaded.fixed_cache, engine.loaded.build
    compiled = fixed.compilation if fixed is not None else None
    assert ("compile" in names) == bool(compiled and compiled.num_calls)
    hits = [one.cache.hits > 0 for one in engine.stack if isinstance(one, VisionCache)]
    assert hits == ([True] if "vision_cache" in names else [])
    assert bool({"compile", "static_cache"} & set(names)) == (fixed is not None)
    assert bool({"int4", "int8"} & set(names)) == (engine.model.quantized is not None)
    assert bool({"split", "onnx_vision"} & set(names)) == (build.artifact_bytes is not None)
    graphs = [one for one in vision.modules() if type(one).__name__ == "OnnxVision"]
    assert len(graphs) == ("onnx_vision" in names)


def check_phases(engine: TransformersEngine) -> None:
    workload = make_workload(engine, batch_size=2, max_new_tokens=4, count=2)
    timing = workload.run_timed(0)
    assert timing.num_tokens == 4
    assert all(timing.phases_s[phase] > 0 for phase in ("vision", "prefill", "decode"))
