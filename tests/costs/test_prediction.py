"""Predictions: above no published latency, scaled by records of the same family."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from profiling.costs.accounting import account
from profiling.costs.phase_costs import PhaseCosts, PhaseCount
from profiling.costs.prediction import COMPUTE, MEMORY, Needed, Prediction, predict, shares_reached
from profiling.costs.twin import Twin
from profiling.errors import ConfigError
from profiling.machine.data_sheets import SHORT_NAMES, choose_data_sheet
from profiling.models.geometry import Geometry
from profiling.models.loading import find_family
from profiling.records import write_record
from tests.costs.test_conventions import read_family

NOTHING = Needed(weights=0, cache=0, activations=0)

QWEN_7B = {
    "text_config": {
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "vocab_size": 152064,
        "layer_types": ["full_attention"] * 28,
    },
    "vision_config": {"out_hidden_size": 3584},
}
LLAVA_13B = {
    "text_config": {
        "hidden_size": 5120,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 40,
        "intermediate_size": 13824,
        "head_dim": 128,
    }
}


def predict_size(
    gpu: str, name: str, changed: Mapping[str, Mapping[str, Any]], geometry: Geometry, dtype: str
) -> Prediction:
    """A family at another of its public sizes."""
    family = read_family(name, "random")
    config = copy.deepcopy(family.config)
    for part, values in changed.items():
        for key, value in values.items():
            assert hasattr(getattr(config, part), key)
            setattr(getattr(config, part), key, value)
    kind = find_family(name)
    changed_family = type(family)(
        name=name,
        config=config,
        processing=family.processing,
        layout=kind.layout(config=config),
        costs=kind.costs(config=config),
    )
    twin = Twin(family=changed_family, attention="sdpa")
    sizes = {name: p.numel() * 2 for name, p in twin.network.named_parameters()}
    costs = account(
        changed_family,
        geometry,
        weight_bytes=sizes,
        cache_element_bytes=2,
        cross_check=False,
        as_computed=True,
    )
    return predict(gpu, costs, dtype=dtype, needed=NOTHING, reached={})


def shape(side: int, prompt_tokens: int, new_tokens: int) -> Geometry:
    return Geometry(sizes=((side, side),), prompt_tokens=prompt_tokens, new_tokens=new_tokens)


# Where a publication names no size of the picture, the largest that fits into its prompt.
@pytest.mark.parametrize(
    ("gpu", "name", "changed", "geometry", "dtype", "published_s", "times"),
    [
        ("a800", "qwen25vl", {}, shape(840, 997, 128), "bfloat16", 1.247, 2.96),
        ("a100", "llava", {}, shape(336, 622, 1), "float16", 0.138, 4.97),
        pytest.param(
            *("a800", "qwen25vl", QWEN_7B, shape(840, 997, 128), "bfloat16", 1.768, 1.87),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("a100", "llava", LLAVA_13B, shape(336, 622, 1), "float16", 0.203, 3.83),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_published_latencies_are_above_the_least_time(
    gpu: str,
    name: str,
    changed: Mapping[str, Mapping[str, Any]],
    geometry: Geometry,
    dtype: str,
    published_s: float,
    times: float,
) -> None:
    least_s = predict_size(gpu, name, changed, geometry, dtype).least_s
    assert published_s > least_s
    # What docs/flop_conventions.md says of it.
    assert published_s / least_s == pytest.approx(times, abs=0.02)


def test_published_phases_are_above_their_least_times() -> None:
    prediction = predict_size("h100", "qwen25vl", QWEN_7B, shape(1428, 2718, 1), "bfloat16")
    least_s = {phase.phase: phase.least_s for phase in prediction.phases}
    assert 0.126 / least_s["prefill"] == pytest.approx(3.24, abs=0.02)
    assert 0.167 / (least_s["vision"] + least_s["projector"]) == pytest.approx(10.5, abs=0.3)


# Known answers


def plain_costs(*, flops: int, moved: int) -> PhaseCosts:
    return PhaseCosts(
        counts=(PhaseCount(phase="prefill", counted=flops, analytic=flops, fvcore=None),),
        steps={},
        uncounted=frozenset(),
        moved_bytes={"prefill": moved},
        as_computed=True,
        source="",
        cross_sources={},
    )


@pytest.mark.parametrize(
    ("flops", "moved", "least_s", "bound_by"),
    [
        (989_500_000_000, 10**9, 1e-3, COMPUTE),
        (10**9, 3_350_000_000, 1e-3, MEMORY),
    ],
)
def test_the_larger_of_the_two_limits_counts(
    flops: int, moved: int, least_s: float, bound_by: str
) -> None:
    costs = plain_costs(flops=flops, moved=moved)
    prediction = predict("h100", costs, dtype="bfloat16", needed=NOTHING, reached={})
    (phase,) = prediction.phases
    assert (phase.least_s, phase.bound_by) == (pytest.approx(least_s), bound_by)
    assert phase.likely_s is None and prediction.likely_s is None


def test_a_device_without_the_dtype_is_refused() -> None:
    costs = plain_costs(flops=1, moved=1)
    with pytest.raises(ConfigError, match="gpu=t4: Tesla T4 has no bfloat16"):
        predict("t4", costs, dtype="bfloat16", needed=NOTHING, reached={})


def test_whether_it_fits() -> None:
    def fits(gpu: str, weights: int) -> bool | None:
        needed = Needed(weights=weights, cache=10**9, activations=10**9)
        costs = plain_costs(flops=1, moved=1)
        return predict(gpu, costs, dtype="float16", needed=needed, reached={}).fits

    assert fits("l4", 22 * 10**9) is True
    assert fits("l4", 23 * 10**9) is False
    assert fits("xeon_amx", 10**12) is None


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_every_short_name_has_a_data_sheet(name: str) -> None:
    _, sheet = choose_data_sheet(name)
    assert sheet.flops_per_s["float32"] > 1e12
    assert 5e10 < sheet.bytes_per_s < 1e13


# Scaling by records


def write_run(
    results: Path, name: str, *, model: str, weights: str, mfu: float | None, mbu: float | None
) -> None:
    summary = {"model": model, "weights": weights, "mfu_prefill": mfu, "mbu_prefill": mbu}
    run = {
        "fingerprint": name,
        "status": "completed",
        "config": {},
        "machine": {"cpu_model": "A chip", "gpus": []},
        "summary": {**summary, "device": "cpu", "noisy": False},
    }
    write_record(results / name, run=run, readings=[], answers=[])


def test_records_of_the_family_scale_the_least_time(tmp_path: Path) -> None:
    write_run(tmp_path, "a", model="m", weights="random", mfu=0.5, mbu=0.1)
    write_run(tmp_path, "b", model="m", weights="random", mfu=0.1, mbu=0.25)
    write_run(tmp_path, "c", model="m", weights="tiny", mfu=0.01, mbu=0.01)
    write_run(tmp_path, "d", model="other", weights="random", mfu=0.9, mbu=0.9)
    write_run(tmp_path, "e", model="m", weights="random", mfu=None, mbu=0.001)
    reached = shares_reached(tmp_path, model="m", weights="random")
    assert sorted(reached["prefill"].shares) == [0.25, 0.5]
    assert reached["prefill"].source == "2 records on A chip, weights=random"
    costs = plain_costs(flops=989_500_000_000, moved=1)
    prediction = predict("h100", costs, dtype="float16", needed=NOTHING, reached=reached)
    assert prediction.likely_s == pytest.approx(1e-3 / 0.375)
    assert prediction.phases[0].range_s == pytest.approx((2e-3, 4e-3))


def test_other_weights_serve_where_there_are_no_better(tmp_path: Path) -> None:
    write_run(tmp_path, "c", model="m", weights="tiny", mfu=0.01, mbu=0.02)
    reached = shares_reached(tmp_path, model="m", weights="random")
    assert reached["prefill"].shares == (0.02,)
    assert "weights=tiny" in reached["prefill"].source


def test_no_records_no_scaling(tmp_path: Path) -> None:
    assert shares_reached(tmp_path / "absent", model="m", weights="tiny") == {}
