"""Errors that are planted in an engine are found; sums in another order are rounding."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch

from profiling.divergence.judging import ERROR, ROUNDING, TIE, judge
from profiling.divergence.measuring import make_reference, measure_errors
from profiling.divergence.reference import Reference
from profiling.engines.engine import Engine
from profiling.engines.functional.engine import FunctionalEngine
from profiling.engines.transformers.runtime_cache import RuntimeCache
from profiling.models import array_functions
from profiling.points.point import Point
from profiling.runs.experiment import load as load_point
from tests.composing import compose_point
from tests.tiny_models import load, take_samples

SAMPLES = take_samples(3)
SHORT = ("max_new_tokens=8", "threads=1", "profiler.time_budget_s=600")


def point_of(family: str, *overrides: str) -> Point:
    return compose_point(f"model={family}", *SHORT, *overrides)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return make_reference(point_of("llava"), SAMPLES, load("llava"))


@pytest.fixture(scope="module")
def loaded() -> FunctionalEngine:
    chosen = ("engine=functional", "engine.library=numpy")
    engine = load_point(point_of("llava", *chosen)).engine
    torch.set_num_threads(1)
    assert isinstance(engine, FunctionalEngine)
    return engine


@pytest.fixture
def engine(loaded: FunctionalEngine) -> FunctionalEngine:
    """An engine whose weights a test may change."""
    own = copy.copy(loaded)
    own.functions = copy.copy(loaded.functions)
    own.functions.weights = copy.deepcopy(loaded.functions.weights)
    return own


def verdict(engine: Engine, reference: Reference, *overrides: str) -> str:
    errors, _ = measure_errors(point_of("llava", *overrides), SAMPLES, engine, reference)
    return judge(errors)


def layers_of(engine: FunctionalEngine) -> Any:
    return engine.functions.weights["model"]["language_model"]["layers"]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_same_functions_differ_by_rounding(
    engine: FunctionalEngine, reference: Reference, batch_size: int
) -> None:
    point = point_of("llava", f"batch_size={batch_size}")
    errors, _ = measure_errors(point, SAMPLES, engine, reference)
    assert len(errors) == int(reference.lengths.sum())
    assert 0 < max(one.ratio for one in errors) < 5
    assert judge(errors) == ROUNDING


def test_sums_in_another_order_are_rounding(engine: FunctionalEngine, reference: Reference) -> None:
    before, _ = measure_errors(point_of("llava"), SAMPLES, engine, reference)
    for number, layer in enumerate(layers_of(engine)):
        mlp = layer["mlp"]
        order = numpy.random.default_rng(number).permutation(len(mlp["up_proj"]["weight"]))
        for name in ("gate_proj", "up_proj"):
            mlp[name]["weight"] = mlp[name]["weight"][order]
        mlp["down_proj"]["weight"] = mlp["down_proj"]["weight"][:, order]
    after, _ = measure_errors(point_of("llava"), SAMPLES, engine, reference)
    assert [one.error for one in after] != [one.error for one in before]
    assert judge(after) == ROUNDING


def plant_transposed_weight(engine: FunctionalEngine, _: pytest.MonkeyPatch) -> None:
    query = layers_of(engine)[-1]["self_attn"]["q_proj"]
    query["weight"] = query["weight"].T


def plant_small_scale(engine: FunctionalEngine, patch: pytest.MonkeyPatch) -> None:
    right = array_functions.attend

    def attend(query: Any, *given: Any, **named: Any) -> Any:
        return right(query * numpy.float32(1.001), *given, **named)

    patch.setattr(array_functions, "attend", attend)


def plant_wrong_position(engine: FunctionalEngine, patch: pytest.MonkeyPatch) -> None:
    right = engine.functions.plan

    def plan(*given: Any) -> Any:
        planned = right(*given)
        return {**planned, "places": planned["places"] + 1}

    patch.setattr(engine.functions, "plan", plan)


def plant_mask_off_by_one(_: FunctionalEngine, patch: pytest.MonkeyPatch) -> None:
    def causal(real: Any) -> Any:
        order = numpy.arange(real.shape[1])
        return real[:, None, None] & (order <= order[:, None] + 1)

    patch.setattr(array_functions, "causal", causal)


def plant_nothing_seen(_: FunctionalEngine, patch: pytest.MonkeyPatch) -> None:
    right = array_functions.attend
    patch.setattr(array_functions, "attend", lambda q, k, v, *a, **n: right(q, k, v * numpy.nan))


PLANTED = (
    *(plant_transposed_weight, plant_small_scale, plant_wrong_position),
    *(plant_mask_off_by_one, plant_nothing_seen),
)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_planted_errors_are_errors(
    plant: Callable[[FunctionalEngine, pytest.MonkeyPatch], None],
    engine: FunctionalEngine,
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(engine, monkeypatch)
    assert verdict(engine, reference) == ERROR


def test_padding_that_is_seen_is_an_error_in_a_batch(
    engine: FunctionalEngine, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = engine.functions.plan

    def plan(*given: Any) -> Any:
        planned = right(*given)
        return {**planned, "real": numpy.ones_like(planned["real"])}

    monkeypatch.setattr(engine.functions, "plan", plan)
    assert verdict(engine, reference, "batch_size=3") == ERROR


def test_a_close_decision_that_falls_otherwise_is_a_tie(
    engine: FunctionalEngine, reference: Reference
) -> None:
    """The plain model's margin is made as small as the error, and the other token its second."""
    errors, _ = measure_errors(point_of("llava"), SAMPLES, engine, reference)
    choices, margins = reference.choices.copy(), reference.margins.copy()
    choices[0], margins[0] = choices[0] + 1, errors[0].error
    close = replace(reference, choices=choices, margins=margins)
    assert verdict(engine, close) == TIE
    # The same difference with a margin that no error explains.
    assert verdict(engine, replace(close, margins=margins + 1)) == ERROR


@pytest.mark.slow
def test_an_error_in_a_runtime_is_found(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("engine=onnxruntime", "engine.parts=[decoder]")
    engine = load_point(point_of("llava", *chosen)).engine
    assert verdict(engine, reference, "batch_size=3") == ROUNDING
    right = RuntimeCache.bias

    def bias(cache: RuntimeCache, new: int) -> Any:
        found = numpy.array(right(cache, new))
        # The last token but one of every prompt is hidden from all that come.
        found[..., max(0, cache.seen.shape[1] - 2)] = numpy.finfo(numpy.float32).min
        return found

    monkeypatch.setattr(RuntimeCache, "bias", bias)
    assert verdict(engine, reference) == ERROR
