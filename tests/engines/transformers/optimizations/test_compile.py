"""Caches of fixed length and compiled steps: the same answers, and no step that ran plainly."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from profiling.engines.engine import Loading
from profiling.engines.transformers.compilation import NeverCompiled
from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.transformers.fixed_cache import FixedCache
from profiling.engines.workload import Workload
from profiling.errors import Unsupported
from profiling.records import Reading
from tests.composing import compose_point
from tests.engines.transformers.shortened import make_shortened
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, build, generate, load, make_workload

# Traces and compiles nothing further: what is counted and what guards hold is the same.
TRACED = "optimization.compile.backend=aot_eager"
SIDES = (90, 120, 168)
LENGTH = 6


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    yield
    torch._dynamo.reset()


@cache
def shared_samples(family: str, batch_size: int) -> Workload:
    return make_workload(
        load(family), batch_size=batch_size, max_new_tokens=LENGTH, count=2 * batch_size
    )


def workload_of(
    engine: TransformersEngine, family: str, *, side: int | None = None, batch_size: int = 2
) -> Workload:
    like = shared_samples(family, batch_size)
    return Workload(
        engine=engine,
        batches=like.batches,
        img_size=side or like.img_size,
        prompt_len=None,
        max_new_tokens=LENGTH,
        preload=True,
    )


def settle(workload: Workload) -> FixedCache:
    """What the engine has made for the workload."""
    engine = workload.engine
    assert isinstance(engine, TransformersEngine)
    engine.settle(workload)
    assert engine.loaded.fixed_cache is not None
    return engine.loaded.fixed_cache


def rows_of(workload: Workload) -> dict[str, Reading]:
    loading = Loading(load_s=1.0, peak_bytes=0, peak_source="a test")
    return {row.metric: row for row in workload.engine.readings(workload, loading)}


def cache_rows_of(workload: Workload) -> dict[str, float | None]:
    return {row.metric: row.value for row in workload.engine.memory_readings(workload)}


def check_answers(
    family: str,
    *overrides: str,
    side: int | None = None,
    batch: int = 2,
    weights: tuple[str, ...] = (),
) -> None:
    """Every token of the plain model in single precision, timed passes among them."""
    plain = workload_of(load(family, *weights), family, side=side, batch_size=batch)
    engine = build(compose_point(f"model={family}", *weights, *overrides))
    workload = workload_of(engine, family, side=side, batch_size=batch)
    made = settle(workload)
    for index in range(2):
        assert torch.equal(generate(workload, index), generate(plain, index))
    timing = workload.run_timed(1)
    assert timing.num_tokens == LENGTH and timing.phases_s["decode"] > 0
    if made.compilation is None:
        return
    cache_rows_of(workload)
    rows = rows_of(workload)
    assert rows["compiled_calls_per_token"].value >= 1
    assert rows["num_compilations"].value >= 1
    assert rows["num_recompilations"].value == 0
    assert rows["make_s"].value == rows["compile_s"].value > 0


@pytest.mark.parametrize("family", slow_except(FAMILIES, "blip2_t5"))
def test_a_cache_of_fixed_length_changes_no_answer(family: str) -> None:
    check_answers(family, "optimization=static_cache")


def test_every_step_of_a_short_model_runs_compiled_and_changes_no_answer(tmp_path: Path) -> None:
    folder = make_shortened("qwen25vl", tmp_path / "qwen25vl")
    weights = ("weights=pretrained", f"model.checkpoint={folder}")
    check_answers("qwen25vl", "optimization=compile", TRACED, weights=weights)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_step_runs_compiled_and_changes_no_answer(family: str) -> None:
    check_answers(family, "optimization=compile", TRACED)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_size_and_no_batch_changes_an_answer(family: str, side: int, batch: int) -> None:
    check_answers(family, "optimization=static_cache", side=side, batch=batch)
    check_answers(family, "optimization=compile", TRACED, side=side, batch=batch)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("family", FAMILIES)
def test_generated_code_changes_no_answer(family: str) -> None:
    check_answers(family, "optimization=compile")


@pytest.mark.parametrize("stack", ["[bf16,compile]", "[compile,fp32]", "[compile,static_cache]"])
@pytest.mark.slow
def test_compiling_stacks(stack: str) -> None:
    engine = build(compose_point(f"optimization={stack}", TRACED))
    workload = workload_of(engine, "qwen25vl")
    settled = settle(workload).settled
    assert generate(workload, 0).shape == (2, LENGTH)
    assert settled is not None
    assert settled.calls_per_token is not None and settled.calls_per_token >= 1
    assert engine.model.dtype == (torch.bfloat16 if "bf16" in stack else torch.float32)


# A stack of the fast suite is tried with one family; each family has its cache alone there.
STACKS = {"[static_cache,bf16]": "qwen25vl", "[int4,static_cache]": "blip2_t5"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "stack"),
    [
        pytest.param(family, stack, marks=() if STACKS[stack] == family else pytest.mark.slow)
        for family in FAMILIES
        for stack in STACKS
    ],
)
def test_a_cache_of_fixed_length_stacks(family: str, stack: str) -> None:
    other = stack.strip("[]").replace("static_cache", "").strip(",")
    plain = workload_of(load(family, f"optimization={other}"), family)
    stacked = workload_of(load(family, f"optimization={stack}"), family)
    settle(stacked)
    same = (generate(plain, 0) == generate(stacked, 0)).float().mean()
    # Keys that are masked are summed as zeros, and the order of sums may round otherwise.
    assert same > 0.8


@pytest.mark.slow
def test_the_cache_is_as_long_as_the_longest_prompt_needs_and_forgets_earlier_points() -> None:
    engine = build(compose_point("model=llava", "optimization=static_cache"))
    long = workload_of(engine, "llava")
    long.max_new_tokens = 40
    settle(long)
    longer = engine.network._previous_max_cache_length
    settle(workload_of(engine, "llava"))
    assert engine.network._previous_max_cache_length == longer - 40 + LENGTH


@pytest.mark.slow
def test_what_was_made_for_a_workload_is_not_made_again() -> None:
    engine = build(compose_point("optimization=compile", TRACED))
    workload = workload_of(engine, "qwen25vl")
    made = settle(workload)
    first = made.settled
    generate(workload, 1)
    assert settle(workload).settled is first
    # A batch of another size is compiled for, and its code would serve the others.
    generate(workload_of(engine, "qwen25vl", batch_size=1), 0)
    assert settle(workload).settled is not first
    assert made.num_recompilations == 0


def test_the_cache_is_measured_with_all_its_room() -> None:
    engine = build(compose_point("model=llava", "optimization=static_cache"))
    workload = workload_of(engine, "llava")
    settle(workload)
    plain = cache_rows_of(workload_of(load("llava"), "llava"))
    fixed = cache_rows_of(workload)
    assert fixed["kv_cache_bytes_per_token"] == plain["kv_cache_bytes_per_token"]
    assert fixed["kv_cache_bytes"] >= plain["kv_cache_bytes"]


def test_steps_that_ran_plainly_are_no_compiled_run() -> None:
    engine = build(compose_point("optimization=compile", TRACED))
    assert engine.loaded.fixed_cache is not None
    engine.loaded.fixed_cache.options["disable_compile"] = True
    with pytest.raises(NeverCompiled, match="of 5 steps of decoding, 0 ran compiled"):
        settle(workload_of(engine, "qwen25vl"))


def test_one_token_needs_no_step() -> None:
    workload = workload_of(build(compose_point("optimization=compile", TRACED)), "qwen25vl")
    workload.max_new_tokens = 1
    settle(workload)
    rows = rows_of(workload)
    assert rows["compiled_calls_per_token"].value is None
    assert rows["num_compilations"].value == 0


@pytest.mark.slow
def test_a_new_shape_is_counted() -> None:
    engine = build(compose_point("optimization=compile", TRACED))
    workload = workload_of(engine, "qwen25vl")
    settle(workload)
    workload_of(engine, "qwen25vl", batch_size=1).run(0)
    assert rows_of(workload)["num_recompilations"].value >= 1


def refuse(monkeypatch: pytest.MonkeyPatch, reason: str, *overrides: str) -> None:
    """The reason is given, and before anything is loaded."""
    loading = "profiling.engines.transformers.optimizations.optimization.load_model"
    monkeypatch.setattr(loading, lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(Unsupported, match=reason):
        build(compose_point(*overrides))


@pytest.mark.parametrize(
    ("stack", "reason"),
    [
        ("[compile,int4]", "does not compile networks quantized by int4"),
        ("[compile,int8]", "does not compile networks quantized by int8"),
        ("flash_attn", "needs a GPU, and the device is cpu"),
        ("[flash_attn,fp16]", "needs a GPU, and the device is cpu"),
    ],
)
def test_what_cannot_be_is_unsupported(
    stack: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, reason, f"optimization={stack}")


def test_cuda_graphs_need_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = "optimization.static_cache.cuda_graphs=true"
    refuse(monkeypatch, "CUDA graphs need a GPU", "optimization=static_cache", setting)


def test_without_a_compiler_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    refuse(monkeypatch, r"there is no C\+\+ compiler: g\+\+ is not on PATH", "optimization=compile")
