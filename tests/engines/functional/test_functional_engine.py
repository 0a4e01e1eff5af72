"""Points run by plain functions: the tokens of engine=torch, every probe, and what is refused."""

from __future__ import annotations

import math
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy
import pytest
import torch

from profiling.engines.functional import engine as module
from profiling.engines.functional.engine import FunctionalEngine
from profiling.engines.functional.forced_tokens import ForcedTokens
from profiling.engines.trace import PHASES
from profiling.engines.workload import Workload
from profiling.errors import ConfigError, Unsupported
from profiling.points.point import Point
from profiling.records import ANSWER_FIELDS, Reading
from profiling.runs.experiment import load as load_point
from profiling.runs.experiment import measure
from profiling.samples.samples import load_samples
from tests.composing import PROJECT, compose_point
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, load, make_workload, take_samples

LENGTH = 6
JAX = pytest.param(
    "jax",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed"),
    ],
)


def libraries(fast: str) -> pytest.MarkDecorator:
    """Every library, of which one is held by the fast suite."""
    slow = {"numpy", "torch"} - {fast}
    others = [pytest.param(name, marks=pytest.mark.slow) for name in slow]
    return pytest.mark.parametrize("library", [fast, *others, JAX])


each_family = pytest.mark.parametrize("family", FAMILIES)


def point_of(family: str, library: str, *overrides: str) -> Point:
    chosen = ("engine=functional", f"engine.library={library}", f"model={family}", "threads=1")
    return compose_point(*chosen, *overrides)


@cache
def functional(family: str, library: str) -> FunctionalEngine:
    engine = load_point(point_of(family, library)).engine
    torch.set_num_threads(1)
    assert isinstance(engine, FunctionalEngine)
    return engine


def workload_of(engine: Any, family: str, *, batch_size: int, count: int) -> Workload:
    samples = take_samples(count)
    return Workload(
        engine=engine,
        batches=[samples[at : at + batch_size] for at in range(0, count, batch_size)],
        img_size=compose_point(f"model={family}").img_size,
        prompt_len=None,
        max_new_tokens=LENGTH,
        preload=True,
    )


def answers(engine: Any, workload: Workload, *, exact: bool) -> list[list[int]]:
    found = []
    for index in range(len(workload.batches)):
        inputs = engine.place(workload.encode(index))
        length = workload.max_new_tokens
        generated = engine.generate(inputs, length=length, exact=exact, trace=None)
        found += engine.tokens(generated)
    return found


# In the fast suite tests/models/test_functional.py holds the tokens of every family.
@pytest.mark.parametrize("family", slow_except(FAMILIES, "llava"))
@libraries(fast="numpy")
def test_tokens_are_those_of_the_library_s_generate(family: str, library: str) -> None:
    engine, plain = functional(family, library), load(family)
    for batch_size, exact in ((1, False), (3, False), (3, True)):
        ours = workload_of(engine, family, batch_size=batch_size, count=3)
        theirs = make_workload(plain, batch_size=batch_size, max_new_tokens=LENGTH, count=3)
        assert answers(engine, ours, exact=exact) == answers(plain, theirs, exact=exact)


@pytest.mark.parametrize("family", slow_except(FAMILIES, "blip2_t5", "fuyu"))
@libraries(fast="numpy")
def test_references_are_as_likely_as_the_library_finds_them(family: str, library: str) -> None:
    engine, plain = functional(family, library), load(family)
    references = ("a blue square on the left", "")
    workload = workload_of(engine, family, batch_size=2, count=2)
    ours = engine.reference_nlls(engine.place(workload.encode(0)), references, LENGTH)
    theirs_workload = make_workload(plain, batch_size=2, max_new_tokens=LENGTH, count=2)
    theirs = plain.reference_nlls(plain.place(theirs_workload.encode(0)), references, LENGTH)
    assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("family", slow_except(FAMILIES, "blip2_opt", "llava", "qwen25vl"))
def test_costs_and_rows_are_those_of_the_library_s_network(family: str) -> None:
    engine, plain = functional(family, "numpy"), load(family)
    ours = workload_of(engine, family, batch_size=2, count=2)
    theirs = make_workload(plain, batch_size=2, max_new_tokens=LENGTH, count=2)
    given = {"length": LENGTH, "cross_check": False}
    mine, wanted = engine.costs(ours.encode(0), **given), plain.costs(theirs.encode(0), **given)
    assert mine == wanted
    rows = [
        each.describe(each.prepare(ours.batches[0], None), inputs, None)
        for each, inputs in ((engine, ours.encode(0)), (plain, theirs.encode(0)))
    ]
    assert rows[0] == rows[1]
    assert engine.footprint().model_bytes == plain.footprint().model_bytes


@libraries(fast="numpy")
def test_phases_are_marked(library: str) -> None:
    engine = functional("llava", library)
    timing = workload_of(engine, "llava", batch_size=2, count=2).run_timed(0)
    assert timing.phases_s.keys() == set(PHASES)
    assert all(seconds > 0 for name, seconds in timing.phases_s.items() if name != "other")
    assert sum(timing.phases_s.values()) == pytest.approx(timing.latency_s)
    assert timing.num_tokens == LENGTH


def test_a_family_without_projector_says_so() -> None:
    engine = functional("fuyu", "numpy")
    assert "projector" in engine.blind
    timing = workload_of(engine, "fuyu", batch_size=1, count=1).run_timed(0)
    assert "projector" not in timing.phases_s


def test_a_part_alone_does_again_what_it_did_in_a_pass() -> None:
    engine, seen = functional("llava", "numpy"), []
    workload = workload_of(engine, "llava", batch_size=1, count=2)
    plain = engine.functions.vision

    def watched(*arguments: Any) -> Any:
        seen.append(plain(*arguments))
        return seen[-1]

    engine.functions.vision = watched  # type: ignore[method-assign]
    try:
        repeat = engine.replay("vision", lambda: workload.run(1))
        repeat()
        repeat()
    finally:
        del engine.functions.vision
    assert len(seen) == 3
    assert (seen[0] == seen[1]).all() and (seen[0] == seen[2]).all()
    with pytest.raises(Unsupported, match="its prefill part alone"):
        engine.replay("prefill", lambda: None)
    with pytest.raises(Unsupported, match="no projector"):
        functional("fuyu", "numpy").replay("projector", lambda: None)


# Every sample

TASKS = sorted(path.stem for path in (PROJECT / "conf" / "dataset").glob("*.yaml"))


@cache
def every_batch(family: str, task: str, batch_size: int, side: int) -> tuple[Workload, Any]:
    """A task's samples in batches for the library's network, and its answers."""
    samples = load_samples(PROJECT / "datasets" / task, count=None, at_most=None)
    assert len(samples) == 120
    plain = load(family)
    workload = Workload(
        engine=plain,
        batches=[samples[at : at + batch_size] for at in range(0, len(samples), batch_size)],
        img_size=side,
        prompt_len=None,
        max_new_tokens=50,
        preload=False,
    )
    return workload, answers(plain, workload, exact=False)


@pytest.mark.slow
@each_family
@libraries(fast="numpy")
@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("task", TASKS)
def test_every_sample_is_answered_with_the_same_tokens(
    family: str, library: str, batch_size: int, task: str
) -> None:
    side = compose_point(f"model={family}").img_size
    theirs, wanted = every_batch(family, task, batch_size, side)
    engine = functional(family, library)
    ours = Workload(
        engine=engine,
        batches=theirs.batches,
        img_size=side,
        prompt_len=None,
        max_new_tokens=50,
        preload=False,
    )
    assert answers(engine, ours, exact=False) == wanted


# A record


def by_metric(readings: list[Reading]) -> dict[str, Reading]:
    return {reading.metric: reading for reading in readings if reading.is_aggregate}


@libraries(fast="torch")
def test_a_point_leaves_a_full_record(library: str) -> None:
    point = point_of(
        "qwen25vl",
        library,
        "profiler=quick",
        "profiler.repeats=3",
        "batch_size=2",
        "max_new_tokens=8",
    )
    samples = load_samples(PROJECT / "datasets" / "textvqa", count=3, at_most=None)
    found = measure(point, samples, load_point(point), lambda _: None)
    torch.set_num_threads(1)
    rows = by_metric(found.readings)
    for metric in ("latency_s", "vision_s", "projector_s", "prefill_s", "decode_s", "flops"):
        assert rows[metric].value > 0, metric
    for metric in ("peak_memory_bytes", "model_bytes", "kv_cache_bytes", "weights_language_bytes"):
        assert rows[metric].value > 0, metric
    assert rows["reference_nll"].value < 1
    assert all(row.value is not None or len(row.source) > 10 for row in rows.values())
    assert (found.dtype, len(found.answers)) == ("float32", 3)
    assert tuple(found.answers[0]) == ANSWER_FIELDS
    compiled = {"compile_s", "num_compilations", "num_recompilations"}
    assert compiled & rows.keys() == (compiled if library == "jax" else set())
    if library == "jax":
        assert rows["num_compilations"].value >= 4
        assert rows["num_recompilations"].value == 0


def test_bytes_of_the_cache_are_those_that_the_library_holds() -> None:
    engine, plain = functional("blip2_t5", "numpy"), load("blip2_t5")
    ours = workload_of(engine, "blip2_t5", batch_size=2, count=2)
    theirs = make_workload(plain, batch_size=2, max_new_tokens=LENGTH, count=2)
    mine, wanted = (
        {row.metric: row.value for row in each.memory_readings(workload)}
        for each, workload in ((engine, ours), (plain, theirs))
    )
    # The last token needs no place in the library's cache, which grows; ours is laid out.
    token = wanted["kv_cache_bytes_per_token"]
    assert mine["kv_cache_bytes_per_token"] == token
    assert 0 <= mine["kv_cache_bytes"] - wanted["kv_cache_bytes"] <= 2 * 2 * token
    assert {k: v for k, v in mine.items() if k.startswith("weights")} == {
        k: v for k, v in wanted.items() if k.startswith("weights")
    }


# Refusals


def refuse_to_load(*_: Any) -> Any:
    raise AssertionError("something was loaded")


@pytest.mark.parametrize(
    ("library", "overrides", "reason"),
    [
        ("torch", ("optimization=int8",), "optimization=int8 changes the library's network"),
        ("torch", ("optimization=compile",), "optimization=compile changes"),
        ("torch", ("optimization=vision_cache",), "optimization=vision_cache changes"),
        ("numpy", ("optimization=bf16",), "NumPy has no bfloat16"),
    ],
)
def test_what_functions_cannot_have_is_refused_before_loading(
    library: str, overrides: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_model", refuse_to_load)
    with pytest.raises(Unsupported, match=reason):
        load_point(point_of("llava", library, *overrides))


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    optimization = "profiling.engines.transformers.optimizations.optimization.find_spec"
    monkeypatch.setattr(optimization, lambda _: None)
    monkeypatch.setattr(module, "load_model", refuse_to_load)
    with pytest.raises(Unsupported, match=r"^jax is not installed: pip install -r requ"):
        load_point(point_of("llava", "jax"))


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("engine.library=tensorflow", "engine.library"),
        ("engine.length_multiple=0", "engine.length_multiple"),
        ("engine.length_multiple=128", "engine.length_multiple"),
    ],
)
def test_wrong_settings_are_refused_by_their_key(override: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}="):
        compose_point("engine=functional", override)


@pytest.mark.parametrize("optimization", ["bf16", "fp16"])
def test_half_precision_is_half_the_bytes(optimization: str) -> None:
    engine = load_point(point_of("blip2_t5", "torch", f"optimization={optimization}")).engine
    torch.set_num_threads(1)
    assert engine.footprint().dtype in ("bfloat16", "float16")
    workload = workload_of(engine, "blip2_t5", batch_size=2, count=2)
    assert all(len(row) == LENGTH for row in answers(engine, workload, exact=True))


def test_forced_tokens_cost_what_their_logits_say() -> None:
    forced = ForcedTokens([[1, 0], [2]])
    logits = numpy.log(numpy.asarray([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    assert forced.longest == 2
    assert forced.choose(logits, None).tolist() == [1, 2]
    assert forced.choose(logits, None).tolist() == [0, 2]
    assert forced.means() == pytest.approx([(math.log(4) + math.log(2)) / 2, -math.log(0.8)])
    broken = ForcedTokens([[0]])
    broken.choose(numpy.asarray([[math.nan, 0.0]]), None)
    assert broken.means() == [None]
