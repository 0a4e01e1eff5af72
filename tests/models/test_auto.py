"""Checkpoints of any architecture: six of them here, the others in `test_auto_architectures`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from profiling.engines.engine import find_engine
from profiling.engines.transformers.engine import TransformersEngine
from profiling.errors import ConfigError, Unsupported
from profiling.models.auto.network import AutoLayout
from profiling.models.auto.parts_rule import is_within
from profiling.models.auto.processors import load_processor
from profiling.models.network import Parts
from profiling.models.weights import CHECKPOINTS
from profiling.runs import experiment
from profiling.samples.samples import load_samples
from tests.architectures import write_checkpoint
from tests.auto_points import check_phases, compose_auto, load_auto, make_workload
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, load, take_samples

SIX = ("qwen3_vl", "llava_onevision", "smolvlm", "internvl", "gemma3", "paligemma")
ONE = "qwen3_vl"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("checkpoints")

    def find(name: str) -> Path:
        folder = root / name
        return folder if folder.exists() else write_checkpoint(name, folder)

    return find


@pytest.mark.parametrize("name", slow_except(SIX, ONE, "smolvlm", "paligemma"))
def test_a_point_runs_to_a_record(name: str, checkpoint: Callable[[str], Path]) -> None:
    quick = ("profiler.repeats=1", "num_samples=2", "profiler.probes.latency.warmup_cap=2")
    peaks = ("profiler.roofline.target_s=0.01", "profiler.roofline.copy_bytes=1048576")
    point = compose_auto(name, checkpoint(name), *quick, *peaks)
    kept = {"latency": point.profiler["probes"]["latency"]}
    kept["flops"] = point.profiler["probes"]["flops"]
    point = replace(point, profiler={**point.profiler, "probes": kept})
    loaded = experiment.load(point)
    samples = load_samples(Path(point.dataset_folder), count=2, at_most=None)
    found = experiment.measure(point, samples, loaded, lambda _: None)
    torch.set_num_threads(1)
    values = {reading.metric: reading for reading in found.readings if reading.is_aggregate}
    for phase in ("vision", "projector", "prefill", "decode"):
        flops = values[f"flops_{phase}"]
        assert flops.value is not None and flops.value > 0
        assert "no independent count" in flops.source
    assert all(line["answer"] is not None for line in found.answers)
    assert all(line["num_question_tokens"] > 0 for line in found.answers)
    check_phases(loaded.engine, make_workload(loaded.engine, None, 2))


def test_pictures_take_the_size_that_is_asked(checkpoint: Callable[[str], Path]) -> None:
    engine = load_auto(ONE, checkpoint(ONE))
    for side in (64, 128):
        workload = make_workload(engine, side, 1)
        engine.settle(workload)
        inputs = workload.encode(0)
        ((width, height),) = engine.family.processing.picture_sizes(inputs)
        assert width * height == pytest.approx(side**2, rel=0.3)
        check_phases(engine, workload)


@pytest.mark.parametrize(
    "name", [ONE, *(pytest.param(name, marks=pytest.mark.slow) for name in SIX[1:5])]
)
def test_several_pictures_reach_the_decoder(name: str, checkpoint: Callable[[str], Path]) -> None:
    engine = load_auto(name, checkpoint(name))
    own = [sample.picture for sample in take_samples(8)]
    first, second = take_samples(2)
    batch = [replace(first, pictures=tuple(own[:3])), replace(second, pictures=(own[3],))]
    workload = make_workload(engine, None, 1)
    workload.batches[:] = [[batch[0]]]
    engine.settle(workload)
    counts = [
        engine.describe(made, engine.encode(made, None), None)[0].num_visual_tokens
        for made in (engine.prepare([one], None) for one in (batch[0], first))
    ]
    assert counts[0] is not None and counts[1] is not None and counts[0] > 2 * counts[1]
    check_phases(engine, workload)


def test_a_template_of_one_s_own_has_one_picture(checkpoint: Callable[[str], Path]) -> None:
    engine = load_auto(ONE, checkpoint(ONE), "model.prompt='{question}'")
    sample = replace(take_samples(1)[0], pictures=(take_samples(1)[0].picture,) * 2)
    with pytest.raises(Unsupported, match=r"^model\.prompt has the place of one picture"):
        engine.prepare([sample], None)


@pytest.mark.parametrize("name", ["llava_onevision", "internvl", "gemma3"])
def test_sizes_that_the_network_cannot_take_are_refused(
    name: str, checkpoint: Callable[[str], Path]
) -> None:
    engine = load_auto(name, checkpoint(name))
    with pytest.raises(Unsupported, match=r"^img_size=224"):
        engine.settle(make_workload(engine, 224, 1))


@pytest.mark.parametrize("length", [1, 7, 40])
def test_questions_have_the_length_that_is_asked(
    length: int, checkpoint: Callable[[str], Path]
) -> None:
    engine = load_auto(ONE, checkpoint(ONE))
    workload = make_workload(engine, None, 2, prompt_len=length)
    plain = make_workload(engine, None, 2, prompt_len=length + 1)
    one, other = (int(each.encode(0)["input_ids"].shape[1]) for each in (workload, plain))
    assert other - one == 1


def test_values_at_random_need_no_weights(tmp_path: Path) -> None:
    folder = write_checkpoint(ONE, tmp_path / ONE, values=False)
    assert not list(folder.glob("*.safetensors"))
    engine = load_auto(ONE, folder, "weights=random", "model.dtype=bfloat16")
    assert engine.model.dtype == torch.bfloat16
    assert not engine.has_values
    workload = make_workload(engine, None, 1)
    engine.settle(workload)
    check_phases(engine, workload)


@pytest.mark.parametrize(
    "stacked",
    slow_except(["bf16", "int8", "int4", "static_cache", "flat_head"], "int8", "static_cache"),
)
def test_optimizations_that_leave_the_parts_run(
    stacked: str, checkpoint: Callable[[str], Path]
) -> None:
    engine = load_auto(ONE, checkpoint(ONE), f"optimization={stacked}")
    workload = make_workload(engine, None, 1)
    engine.settle(workload)
    check_phases(engine, workload)
    costs = engine.costs(workload.encode(0), length=4, cross_check=False)
    assert not costs.uncounted
    assert all(count.counted for count in costs.counts)


# What is refused, and where


@pytest.mark.parametrize(
    "chosen",
    slow_except(
        [
            *(f"optimization={name}" for name in ("vision_cache", "onnx_vision", "split")),
            *(f"optimization={name}" for name in ("assisted", "text_only", "token_pruning")),
            *("engine=onnxruntime", "engine=openvino", "engine=functional"),
        ],
        *("optimization=split", "optimization=token_pruning"),
        *("engine=onnxruntime", "engine=functional"),
    ),
)
def test_what_needs_stand_ins_is_refused_before_loading(
    chosen: str, checkpoint: Callable[[str], Path]
) -> None:
    point = compose_auto(ONE, checkpoint(ONE), chosen)
    with pytest.raises(Unsupported, match=r"model=auto"):
        find_engine(point).check(point)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("weights=pretrained",), "model.checkpoint"),
        (("weights=random",), "model.checkpoint"),
        (("weights=tiny",), "model.checkpoint"),
        (("weights=tiny", "model.checkpoint=a/b"), "model.checkpoint"),
        (("weights=random", "model.checkpoint=a/b", "model.prompt=hello"), "model.prompt"),
    ],
)
def test_what_has_to_be_given_is_named(overrides: tuple[str, ...], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_point("model=auto", *overrides)
    assert refused.value.key == key


def test_a_checkpoint_without_a_template_needs_a_prompt(
    checkpoint: Callable[[str], Path],
) -> None:
    folder = checkpoint("paligemma")
    point = compose_point("model=auto", "weights=pretrained", f"model.checkpoint={folder}")
    with pytest.raises(ConfigError, match=r"model.prompt"):
        find_engine(point).load(point)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ raise_exception('no system role') }}", "TemplateError: no system role; model.prompt"),
        ("{% for x in %}", "the chat template fails: TemplateSyntaxError"),
        ("{{ 'User: ' + messages[0]['content'] }}", "the chat template fails: TypeError"),
        ("User: {{ messages[0]['content'] }}", "has no place for a picture"),
    ],
)
def test_a_template_that_fails_is_refused(
    template: str, told: str, checkpoint: Callable[[str], Path]
) -> None:
    processing = load_auto(ONE, checkpoint(ONE)).family.processing
    processing.processor.chat_template = template
    with pytest.raises(Unsupported, match=told):
        processing.render("what is here")


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"{", "cannot be read"), (b"\xff", "cannot be read"), (b"[]", "is not an object")],
)
def test_a_broken_file_of_the_processor_is_named(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_bytes(content)
    with pytest.raises(ConfigError, match=f"processor_config.json {told}"):
        load_processor(str(tmp_path), "qwen3_vl", {"local_files_only": True})


def test_unequal_prompts_that_disturb_each_other_are_refused(
    checkpoint: Callable[[str], Path],
) -> None:
    engine = load_auto("kosmos-2", checkpoint("kosmos-2"))
    alone, both = (make_workload(engine, None, rows) for rows in (1, 2))
    for workload in (alone, both):
        engine.settle(workload)
    check_phases(engine, alone)
    with pytest.raises(Unsupported, match="batch of prompts of different lengths"):
        both.encode(0)


def test_costs_are_not_known_before_a_run(checkpoint: Callable[[str], Path]) -> None:
    point = compose_auto(ONE, checkpoint(ONE))
    engine = find_engine(point)
    assert engine.predict_bytes(point) is None
    with pytest.raises(Unsupported, match="counted on the running network"):
        engine.count(point)


def broken(found: Parts, **wrong: object) -> Parts:
    return replace(found, **wrong)  # type: ignore[arg-type]


# What a wrong guess of the parts of ONE says of itself.
WRONG = {
    "vision part": {"vision": "model.language_model.embed_tokens"},
    "called again": {"vision": "model.language_model.layers.0"},
    "outside of every part": {"vision": "model.visual.patch_embed"},
    "projector": {"projector": ("model.language_model.rotary_emb",)},
    "head": {"head": "model.language_model.norm"},
    "decoder": {"language": "model.language_model.embed_tokens"},
    "outside": {"language": "model.language_model.layers.1"},
}


@pytest.fixture(scope="module")
def rightly_guessed(checkpoint: Callable[[str], Path]) -> TransformersEngine:
    return load_auto(ONE, checkpoint(ONE))


@pytest.mark.parametrize("told", WRONG)
def test_a_wrong_guess_is_refused(
    told: str, rightly_guessed: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = rightly_guessed
    layout = engine.family.layout
    assert isinstance(layout, AutoLayout)
    monkeypatch.setattr(layout, "parts", broken(layout.parts, **WRONG[told]))
    with pytest.raises(Unsupported, match=told):
        engine.settle(make_workload(engine, None, 1))


def test_too_little_memory_is_no_refusal(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load_auto(ONE, checkpoint(ONE))

    def fail(**_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(engine.network, "generate", fail)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        engine.settle(make_workload(engine, None, 2))


def test_a_network_that_ignores_pictures_is_refused(checkpoint: Callable[[str], Path]) -> None:
    engine = load_auto(ONE, checkpoint(ONE))
    for path, module in engine.network.named_modules():
        if "merger" in path and path.endswith("linear_fc2"):
            # All pictures look the same behind it.
            module.weight.zero_()
    with pytest.raises(Unsupported, match=r"projector .* returns the same for another picture"):
        engine.settle(make_workload(engine, None, 1))


# The families that have files of their own


@pytest.mark.parametrize("family", slow_except(FAMILIES, "blip2_t5"))
def test_the_same_parts_and_flops_as_the_family_itself(family: str) -> None:
    own = load(family, "optimization=fp32")
    auto = load_auto(family, CHECKPOINTS / "tiny" / family)
    ours, generic = (
        make_workload(own, compose_point(f"model={family}").img_size, 2),
        make_workload(auto, None, 2),
    )
    auto.settle(generic)
    inputs = ours.encode(0)
    counted = [engine.costs(inputs, length=6, cross_check=False) for engine in (own, auto)]
    first, second = ({c.phase: c.counted for c in costs.counts} for costs in counted)
    assert first == second
    assert counted[0].moved_bytes == counted[1].moved_bytes
    answers = [
        engine.generate(engine.place(inputs), length=6, exact=True, trace=None).tolist()
        for engine in (own, auto)
    ]
    assert answers[0] == answers[1]
    declared, found = own.family.layout.parts, auto.family.layout.parts
    assert (found.vision, found.more_vision) == (declared.vision, ())
    assert set(found.projector) == set(declared.projector)
    assert (found.head, found.text_encoder) == (declared.head, declared.text_encoder)
    # The module that is called is what a family declares, or lies in it.
    assert is_within(found.language, declared.language)
