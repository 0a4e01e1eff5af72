"""AWQ: what is quantized, what scaling leaves as it is, what it gains, and what is said of it."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from profiling.costs.counting import FlopCounter
from profiling.engines.engine import Loading
from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.awq import Awq, balanced, output_error
from profiling.errors import ConfigError, Unsupported
from profiling.models.grouped_linear import GroupedLinear, quantize_groups
from profiling.points.point import Point
from profiling.runs.session import plan_checked
from profiling.samples.calibration import calibration_samples
from profiling.samples.samples import load_samples
from tests.composing import PROJECT, compose_point
from tests.engines.transformers.optimizations.planting import plant_outliers
from tests.marking import slow_except
from tests.tiny_models import (
    FAMILIES,
    ask,
    build,
    encode,
    first_logits,
    load,
    make_picture,
    make_workload,
)

QUICK = ("calibration=3", "rows=96", "steps=6")
SIDE = 120


def compose(family: str, *overrides: str, stack: str = "awq", settings: tuple = QUICK) -> Point:
    chosen = [f"optimization.awq.{one}" for one in settings]
    return compose_point(f"model={family}", f"optimization={stack}", *chosen, *overrides)


@cache
def quantized(family: str, stack: str = "awq") -> TransformersEngine:
    return build(compose(family, stack=stack))


def logits_of(engine: TransformersEngine) -> Tensor:
    asked = [ask(engine, "what is it?", make_picture(90 + 20 * i, 120, seed=i)) for i in range(2)]
    return first_logits(engine, encode(engine, asked, SIDE), SIDE)


def relative_error(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def grouped_layers(network: nn.Module) -> dict[str, GroupedLinear]:
    return {n: m for n, m in network.named_modules() if isinstance(m, GroupedLinear)}


@pytest.mark.parametrize("family", slow_except(FAMILIES, "blip2_t5", "qwen25vl"))
def test_the_language_part_is_quantized_and_nothing_else(family: str) -> None:
    engine, plain = quantized(family), load(family)
    layout, made = engine.family.layout, engine.model.quantized
    layers = grouped_layers(engine.network)
    assert made is not None and sorted(made.names) == sorted(layers)
    assert all(name.startswith(layout.language_paths) for name in layers)
    left = {n for n, m in engine.network.named_modules() if type(m) is nn.Linear}
    language = {name for name in left if name.startswith(layout.decoder + ".")}
    kept_whole = {name for name in language if name.endswith(".wo")}
    assert language == kept_whole and layout.parts.head in left
    saved = plain.model.parameter_bytes() - engine.model.parameter_bytes()
    dense = sum(4 * layer.in_features * layer.out_features for layer in layers.values())
    assert saved == dense - sum(layer.stored_bytes() for layer in layers.values())


@pytest.mark.parametrize("family", slow_except(FAMILIES, "llava", "qwen25vl"))
def test_the_first_logits_stay_near_the_plain_ones(family: str) -> None:
    assert 0 < relative_error(logits_of(quantized(family)), logits_of(load(family))) < 0.3


@pytest.mark.parametrize("family", slow_except(FAMILIES, "blip2_opt", "fuyu"))
def test_every_scale_leaves_the_function_as_it_is(family: str) -> None:
    """Before anything is rounded, whatever the scales are."""
    engine = build(compose_point(f"model={family}"))
    expected = logits_of(engine)
    inputs = engine.family.layout.scaled_inputs(engine.network)
    read = [path for one in inputs for path in one.layers]
    assert len(read) == len(set(read)) >= 4 * 3
    generator = torch.Generator().manual_seed(0)
    for one in inputs:
        width = engine.network.get_submodule(one.layers[0]).in_features
        count = len(one.mean_by_channel(torch.ones(width)))
        scales = 8 ** (2 * torch.rand(count, generator=generator) - 1)
        before = engine.network.get_submodule(one.layers[0]).weight.clone()
        one.multiply(engine.network, scales)
        assert not torch.equal(engine.network.get_submodule(one.layers[0]).weight, before)
        one.absorb(engine.network, scales)
    assert relative_error(logits_of(engine), expected) < 2e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_all_layers_that_can_be_scaled_are(family: str) -> None:
    engine = quantized(family)
    inputs = engine.family.layout.scaled_inputs(engine.network)
    assert set(grouped_layers(engine.network)) <= {path for one in inputs for path in one.layers}


def planted(family: str) -> TransformersEngine:
    engine = build(compose_point(f"model={family}"))
    norms = plant_outliers(engine.network, engine.family, factor=30, count=6, seed=0)
    assert norms == 2 * engine.family.costs.decoder_stack.layers
    return engine


@pytest.mark.parametrize("family", ["llava", "qwen25vl"])
def test_planted_outliers_leave_the_function_as_it_is(family: str) -> None:
    plain = logits_of(load(family))
    shifted = logits_of(planted(family))
    assert float((shifted - plain).abs().max() / plain.abs().max()) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llava", pytest.param("qwen25vl", marks=pytest.mark.slow)])
def test_with_outliers_scaling_saves_most_of_the_loss(family: str) -> None:
    exact = logits_of(load(family))

    def loss(steps: int) -> float:
        engine = planted(family)
        chosen = ("calibration=8", "rows=512", f"steps={max(steps, 1)}")
        awq = chosen_awq(compose(family, settings=chosen))
        if not steps:
            awq._search = unscaled  # type: ignore[method-assign, assignment]
        awq.apply(LoadedModel(model=engine.model))
        return relative_error(logits_of(engine), exact)

    def unscaled(network: nn.Module, one: object, seen: object, sizes: object) -> Tensor:
        layer = network.get_submodule(one.layers[0])  # type: ignore[attr-defined]
        return one.mean_by_channel(torch.ones(layer.in_features))  # type: ignore[attr-defined]

    assert loss(steps=20) < 0.6 * loss(steps=0)


def chosen_awq(point: Point) -> Awq:
    awq = Awq(**point.optimization_settings["awq"])
    awq.check(point)
    return awq


def test_scales_are_tried_against_none() -> None:
    """On what it was chosen by, no choice is worse than none; with outliers it is better."""
    torch.manual_seed(0)
    weight, given = torch.randn(16, 64), torch.randn(128, 64)
    given[:, :3] *= 50

    def round_trip(values: Tensor) -> object:
        return quantize_groups(values, bits=4, group=32)

    mean = given.abs().mean(0)
    errors = [
        output_error([weight], given, balanced(mean ** (step / 10)), round_trip)
        for step in range(11)
    ]
    exact = given @ weight.T
    rounded = given @ quantize_groups(weight, bits=4, group=32).dense().T
    assert errors[0] == pytest.approx(float((rounded - exact).pow(2).sum()), rel=1e-3)
    assert min(errors) < 0.5 * errors[0]


def test_it_stacks_with_a_dtype_and_computes_in_it() -> None:
    engine = quantized("llava", "[bf16,awq]")
    assert engine.model.dtype == torch.bfloat16
    said = "bfloat16; quantized layers bfloat16 (reference kernel: dequantized for each product)"
    assert engine.footprint().computes_in == said
    assert relative_error(logits_of(engine), logits_of(load("llava"))) < 0.3


@pytest.mark.parametrize(
    ("other", "family"),
    [
        ("quantized_cache", "llava"),
        pytest.param("split", "blip2_opt", marks=pytest.mark.slow),
        pytest.param("static_cache", "blip2_t5", marks=pytest.mark.slow),
        pytest.param("token_pruning", "qwen25vl", marks=pytest.mark.slow),
        pytest.param("prompt_lookup", "fuyu", marks=pytest.mark.slow),
        pytest.param("assisted", "llava", marks=pytest.mark.slow),
        pytest.param("onnx_vision", "qwen25vl", marks=pytest.mark.slow),
        pytest.param("vision_cache", "llava", marks=pytest.mark.slow),
        pytest.param("flat_head", "qwen25vl", marks=pytest.mark.slow),
        pytest.param("compile", "llava", marks=pytest.mark.slow),
    ],
)
def test_it_stacks_with_what_leaves_its_layers(other: str, family: str) -> None:
    engine = quantized(family, f"[awq,{other}]")
    assert grouped_layers(engine.network)
    workload = make_workload(engine, batch_size=1, max_new_tokens=3, count=1)
    engine.settle(workload)
    workload.run(0)


@pytest.mark.parametrize("other", ["int4", "int8"])
def test_two_quantizations_are_a_wrong_configuration(other: str) -> None:
    with pytest.raises(ConfigError, match="both set the quantization"):
        compose("llava", stack=f"[awq,{other}]")


def test_a_runtime_cannot_run_its_layers() -> None:
    with pytest.raises(Unsupported, match=r"awq.*(text|language|decoder)"):
        TransformersEngine.check(compose("llava", "engine=onnxruntime"))


def test_products_are_counted_as_dense_ones() -> None:
    def count(engine: TransformersEngine) -> int:
        inputs = encode(engine, [ask(engine, "what?", make_picture(90, 120))], SIDE)
        with FlopCounter() as counter:
            first_logits(engine, inputs, SIDE)
        assert not counter.unknown
        return counter.flops

    assert count(quantized("qwen25vl")) == count(load("qwen25vl"))


def test_the_record_says_what_was_done() -> None:
    engine = quantized("fuyu")
    workload = make_workload(engine, batch_size=1, max_new_tokens=2, count=1)
    loading = Loading(load_s=1.0, peak_bytes=123, peak_source="a test")
    rows = {row.metric: row for row in engine.readings(workload, loading)}
    assert {"make_s", "quantized_share", "bits_per_weight", "calibration_samples"} <= rows.keys()
    assert rows["bits_per_weight"].value == pytest.approx(4 + 24 / 64)
    assert rows["calibration_samples"].value == 3
    assert "textvqa/calibration with seed 0" in rows["calibration_samples"].source
    assert engine.precisions() == {"float32", "int4"}
    made = engine.model.quantized
    assert made is not None and rows["make_s"].value == made.made_s > 0
    costs = engine.costs(workload.encode(0), length=2, cross_check=False)
    assert costs is not None


def test_a_width_that_the_group_does_not_divide_is_said() -> None:
    point = compose("llava", settings=("calibration=1", "rows=8", "steps=1", "group=128"))
    engine = build(point)
    sizes = {
        layer.in_features: layer.group_size for layer in grouped_layers(engine.network).values()
    }
    assert sizes == {192: 96, 576: 96}
    loading = Loading(load_s=1.0, peak_bytes=123, peak_source="a test")
    workload = make_workload(engine, batch_size=1, max_new_tokens=2, count=1)
    (row,) = [r for r in engine.readings(workload, loading) if r.metric == "bits_per_weight"]
    assert "groups of 128" in row.source and "96 in 28 layers" in row.source


def test_a_seed_that_no_generator_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"awq.seed=.*: allowed is a whole number from 0 to"):
        compose("llava", settings=(f"seed={2**63}",))


def test_the_seed_chooses_among_the_split() -> None:
    point = compose("llava")
    other = compose("llava", settings=(*QUICK, "seed=1"))
    ids = [[s.id for s in calibration_samples(one, "awq")] for one in (point, other)]
    assert ids[0] != ids[1] and ids[0] == [s.id for s in calibration_samples(point, "awq")]


@pytest.mark.parametrize("dataset", ["coco", "scienceqa", "textvqa"])
def test_the_split_has_no_sample_that_runs_are_judged_by(dataset: str) -> None:
    folder = PROJECT / "datasets" / dataset
    judged, split = (
        {sample.picture.read_bytes() for sample in load_samples(one, count=None, at_most=None)}
        for one in (folder, folder / "calibration")
    )
    assert len(split) >= 32 and not judged & split


def own_dataset(folder: Path, *, count: int = 6) -> Path:
    """A small dataset with a calibration split."""
    shutil.copytree(PROJECT / "datasets" / "textvqa" / "calibration", folder / "calibration")
    shutil.copytree(PROJECT / "datasets" / "textvqa" / "pictures", folder / "pictures")
    entries = json.loads((PROJECT / "datasets" / "textvqa" / "samples.json").read_text())
    (folder / "samples.json").write_text(json.dumps(entries[:count]))
    return folder


def test_the_address_covers_what_was_calibrated_with(tmp_path: Path) -> None:
    folder = own_dataset(tmp_path / "own")
    chosen = (f"dataset.folder={folder}", f"results_dir={tmp_path / 'results'}")
    first = plan_checked(compose("llava", *chosen))
    before = first.fingerprint
    plan = plan_checked(compose_point("model=llava", *chosen))
    plain = plan.fingerprint
    # What is judged is the same, so that both can be compared.
    assert first.digests["samples"] == plan.digests["samples"]
    assert "calibration" in first.digests.keys() - plan.digests.keys()
    split = folder / "calibration" / "samples.json"
    entries = json.loads(split.read_text())
    for entry in entries:
        entry["request"] = "what is written there?"
    split.write_text(json.dumps(entries))
    assert plan_checked(compose("llava", *chosen)).fingerprint != before
    assert plan_checked(compose_point("model=llava", *chosen)).fingerprint == plain


def test_a_model_serves_only_the_samples_it_was_calibrated_on() -> None:
    def keys(stack: str) -> set[str]:
        return {
            compose_point("model=llava", f"optimization={stack}", *one).load_key
            for one in (("dataset=coco",), ("dataset=textvqa",), ("img_size=168",))
        }

    assert len(keys("awq")) == 3 and len(keys("baseline")) == 1


def test_a_dataset_without_a_split_is_unsupported(tmp_path: Path) -> None:
    folder = own_dataset(tmp_path / "own")
    shutil.rmtree(folder / "calibration")
    point = compose("llava", f"dataset.folder={folder}", f"results_dir={tmp_path / 'results'}")
    assert plan_checked(point).point.dataset_folder == str(folder)
    with pytest.raises(Unsupported, match=r"awq calibrates with samples in .*own/calibration"):
        TransformersEngine.check(point)


def test_a_split_with_fewer_samples_is_taken_whole() -> None:
    point = compose("llava", settings=("calibration=4000",))
    split = load_samples(PROJECT / "datasets" / "textvqa" / "calibration", count=None, at_most=None)
    taken = calibration_samples(point, "awq")
    assert sorted(one.id for one in taken) == sorted(one.id for one in split)


def test_a_broken_split_is_refused(tmp_path: Path) -> None:
    folder = own_dataset(tmp_path / "own")
    (folder / "calibration" / "samples.json").write_text("[{}]")
    point = compose("llava", f"dataset.folder={folder}", f"results_dir={tmp_path / 'results'}")
    with pytest.raises(ConfigError, match=r"calibration: samples\.json, sample 0"):
        plan_checked(point)


def test_a_model_of_any_architecture_is_unsupported() -> None:
    point = compose(
        "auto", "weights=pretrained", f"model.checkpoint={PROJECT}/checkpoints/tiny/llava"
    )
    with pytest.raises(Unsupported, match="absorb the scales"):
        TransformersEngine.check(point)
