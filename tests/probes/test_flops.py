"""The FLOPs probe: its readings, and that a count which does not agree is never given out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiling.costs import accounting
from profiling.costs.accounting import geometry_of
from profiling.costs.twin import Costs, count
from profiling.engines.workload import Workload
from profiling.errors import Unsupported
from profiling.probes.flops import PROBE, FlopsProbe
from profiling.records import DERIVED, UNAVAILABLE, Reading
from tests.tiny_models import FAMILIES, generate, load, make_workload

HEADLINES = ("flops", "flops_vision", "flops_projector", "flops_prefill", "flops_decode")


def workload_of(name: str, *, max_new_tokens: int = 4) -> Workload:
    return make_workload(load(name), batch_size=2, max_new_tokens=max_new_tokens, count=2)


def measure(workload: Workload, *, cross_check: bool = False) -> dict[str, Reading]:
    readings = list(PROBE(cross_check=cross_check).measure(workload))
    aggregates = [reading for reading in readings if reading.is_aggregate]
    assert len({reading.metric for reading in aggregates}) == len(aggregates)
    return {reading.metric: reading for reading in aggregates}


def spoil(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Have the counter come to another result."""

    def spoiled(*args: object) -> Costs:
        return replace(count(*args), **changes)  # type: ignore[arg-type]

    monkeypatch.setattr(accounting, "count", spoiled)


def costs_of(name: str) -> Costs:
    engine = load(name)
    inputs = workload_of(name).encode(0)
    return count(engine.family, geometry_of(engine.family, inputs, 4))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_phases_add_up(name: str) -> None:
    readings = measure(workload_of(name))
    phases = [readings[metric].value or 0 for metric in HEADLINES[1:]]
    assert readings["flops"].value == sum(phases)
    assert all(readings[metric].unit == "FLOP" for metric in HEADLINES)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_count_stands_beside_an_independent_one(name: str) -> None:
    readings = measure(workload_of(name))
    for metric in HEADLINES[1:]:
        if readings[metric].status == DERIVED:
            independent = readings[f"{metric}_analytic"].value
            assert readings[metric].value == pytest.approx(independent, rel=1e-3)


def test_a_family_without_a_projector_has_none_and_says_so() -> None:
    reading = measure(workload_of("fuyu"))["flops_projector"]
    assert (reading.value, reading.status) == (None, UNAVAILABLE)
    assert "projector" in reading.source


def test_one_new_token_has_no_decoding() -> None:
    readings = measure(workload_of("llava", max_new_tokens=1))
    assert readings["flops_decode"].status == UNAVAILABLE
    assert readings["flops"].value == sum(
        readings[f"flops_{phase}"].value or 0 for phase in ("vision", "projector", "prefill")
    )


def test_steps_of_decoding_are_raw_readings() -> None:
    readings = list(FlopsProbe(cross_check=False).measure(workload_of("llava")))
    steps = [reading for reading in readings if reading.metric == "flops_step"]
    assert [reading.repeat for reading in steps] == [1, 3]
    assert not any(reading.is_aggregate for reading in steps)


@pytest.mark.parametrize("factor", [0.5, 0.998, 1.002, 2])
def test_a_count_that_arithmetic_does_not_bear_out_is_unavailable(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = workload_of("llava")
    costs = costs_of("llava")
    wrong = replace(costs.vision, flops=round(costs.vision.flops * factor))
    spoil(monkeypatch, vision=wrong)
    readings = measure(workload)
    for metric in ("flops", "flops_vision"):
        assert readings[metric].status == UNAVAILABLE
        assert str(wrong.flops) in readings[metric].source
    assert readings["flops_prefill"].status == DERIVED


def test_a_count_within_tolerance_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = workload_of("llava")
    costs = costs_of("llava")
    near = replace(costs.vision, flops=round(costs.vision.flops * 1.0005))
    spoil(monkeypatch, vision=near)
    assert measure(workload)["flops_vision"].value == near.flops


def test_an_operator_without_a_formula_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = workload_of("llava")
    costs = costs_of("llava")
    odd = replace(costs.prefill, uncounted=frozenset({"strange::product"}))
    spoil(monkeypatch, prefill=odd)
    readings = measure(workload)
    for metric in HEADLINES:
        assert readings[metric].status == UNAVAILABLE
        assert "strange::product" in readings[metric].source


def test_fvcore_disagreeing_takes_the_count_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "count_with_fvcore", lambda *_: [("vision", 7)])
    readings = measure(workload_of("llava"), cross_check=True)
    assert readings["flops_vision"].status == UNAVAILABLE
    assert readings["flops_vision_fvcore"].value == 7


def test_a_part_that_fvcore_cannot_trace_is_no_disagreement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accounting, "count_with_fvcore", lambda *_: [("vision", "no trace")])
    readings = measure(workload_of("llava"), cross_check=True)
    assert readings["flops_vision"].status == DERIVED
    assert readings["flops_vision_fvcore"].status == UNAVAILABLE
    assert readings["flops_vision_fvcore"].source == "no trace"


def test_all_three_methods_agree_on_a_real_batch() -> None:
    readings = measure(workload_of("llava", max_new_tokens=2), cross_check=True)
    for phase in ("vision", "projector", "prefill", "decode"):
        value = readings[f"flops_{phase}"].value
        assert readings[f"flops_{phase}_analytic"].value == pytest.approx(value, rel=1e-3)
        assert readings[f"flops_{phase}_fvcore"].value == pytest.approx(value, rel=0.02)


def test_the_network_that_is_measured_is_not_touched() -> None:
    workload = workload_of("qwen25vl")
    before = generate(workload, 0)
    measure(workload)
    assert generate(workload, 0).equal(before)


def test_an_engine_that_shows_nothing_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = workload_of("llava")

    def refuse(*_: object, **__: object) -> None:
        raise Unsupported("the server does not tell what it computes")

    monkeypatch.setattr(workload.engine, "costs", refuse)
    readings = measure(workload, cross_check=True)
    assert set(readings) == set(HEADLINES)
    for reading in readings.values():
        assert (reading.value, reading.status) == (None, UNAVAILABLE)
        assert reading.source == "the server does not tell what it computes"
