"""The vision part in ONNX Runtime inside of whole generations, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from profiling.engines.transformers.engine import TransformersEngine
from profiling.errors import Unsupported
from profiling.graphs.export import export_vision
from profiling.graphs.vision_chain import load_vision, put_vision
from profiling.machine.cache import cache_root
from tests.composing import compose_point
from tests.engines.transformers.shortened import make_shortened_vision
from tests.marking import slow_except
from tests.tiny_models import (
    FAMILIES,
    answer,
    ask,
    build,
    encode,
    first_logits,
    load,
    make_picture,
)

ONNX = "optimization=[fp32,onnx_vision]"
Pair = tuple[TransformersEngine, TransformersEngine]
# A model of qwen25vl with few blocks, whose export takes half of the time.
SHORT = "qwen25vl of two blocks"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """A model in torch, and with its vision part in the runtime."""

    @cache
    def make(name: str) -> Pair:
        chosen: tuple[str, ...] = (name,)
        if name == SHORT:
            folder = make_shortened_vision(tmp_path_factory.mktemp("short") / "qwen25vl")
            chosen = ("qwen25vl", "weights=pretrained", f"model.checkpoint={folder}")
        return load(*chosen, "optimization=fp32"), load(*chosen, ONNX)

    return make


@pytest.mark.parametrize("name", slow_except([*FAMILIES, SHORT], "fuyu", SHORT))
def test_answers_as_the_plain_model_does(name: str, pairs: Callable[[str], Pair]) -> None:
    plain, exported = pairs(name)
    native = compose_point(f"model={plain.family.name}").img_size
    for side in (native, 2 * native):
        pictures = [make_picture(300, 100 + 50 * seed, seed=seed) for seed in range(3)]
        asked = [ask(plain, "what is it?", picture) for picture in pictures]
        inputs = encode(plain, asked, side)
        right, found = (first_logits(model, inputs, side) for model in (plain, exported))
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)
        assert answer(exported, asked, side) == answer(plain, asked, side)
    assert exported.loaded.build.make_s and exported.loaded.build.make_s > 0
    assert exported.loaded.build.artifact_bytes and exported.loaded.build.artifact_bytes > 0
    vision = exported.network.get_submodule(exported.family.layout.parts.vision)
    assert list(vision.parameters()) == []
    assert vision.held.nbytes > 0


def test_a_projector_that_is_inside_is_not_waited_for(pairs: Callable[[str], Pair]) -> None:
    assert pairs(SHORT)[1].blind == {"projector": "done inside of the vision part"}


@pytest.mark.slow
def test_two_pictures_in_one_prompt() -> None:
    plain, exported = load("llava", "optimization=fp32").model, load("llava", ONNX)
    family = plain.family
    prompt = family.processing.render("same?").replace("<image>", "<image><image>")
    size = family.processing.size_options(112)
    pictures = [make_picture(112, 112, seed=seed) for seed in (1, 2)]
    inputs = plain.place(
        family.processing.processor(images=pictures, text=[prompt], return_tensors="pt", **size)
    )
    right, found = (first_logits(model, inputs, 112) for model in (plain, exported))
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)


def test_two_pictures_of_different_sizes_in_one_prompt(pairs: Callable[[str], Pair]) -> None:
    whole, exported = pairs(SHORT)
    plain = whole.model
    family = plain.family
    one = "<|vision_start|><|image_pad|><|vision_end|>"
    prompt = family.processing.render("same?").replace(one, one + one)
    assert prompt.count(one) == 2
    pictures = [make_picture(84, 196, seed=1), make_picture(280, 56, seed=2)]
    inputs = plain.place(
        family.processing.processor(
            images=pictures, text=[prompt], do_resize=False, return_tensors="pt"
        )
    )
    right, found = (first_logits(model, inputs, 112) for model in (plain, exported))
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)


def list_graphs() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (cache_root() / "onnx").rglob("*.onnx")}


def test_what_is_made_is_used_again() -> None:
    load("fuyu", ONNX)
    made = list_graphs()
    build(compose_point("model=fuyu", ONNX))
    assert list_graphs() == made != {}


def test_an_absent_provider_is_unsupported() -> None:
    point = compose_point(
        "model=fuyu", ONNX, "optimization.onnx_vision.provider=VitisAIExecutionProvider"
    )
    with pytest.raises(Unsupported, match="VitisAIExecutionProvider is not in the installed"):
        build(point)


@pytest.mark.slow
def test_stacks_with_few_bits() -> None:
    """The vision part keeps its values; the language model does not."""
    exported = load("qwen25vl", "optimization=[fp32,int4,onnx_vision]")
    plain = load("qwen25vl", "optimization=[fp32,int4]")
    assert {type(module).__name__ for module in exported.network.modules()} >= {"Linear4bit"}
    inputs = encode(plain, [ask(plain, "what is it?", make_picture(112, 112))], 112)
    assert first_logits(exported, inputs, 112).isfinite().all()


@pytest.mark.slow
def test_in_brain_floats_the_rest_stays_in_brain_floats(tmp_path: Path) -> None:
    model = build(compose_point("model=fuyu", "optimization=bf16")).model
    path = export_vision(model, tmp_path, layout="half", parts=1, simplify=False, provider=None)
    plain = load("fuyu", "optimization=bf16")
    put_vision(model, load_vision(path, model=model, threads=1, provider=None, provider_options={}))
    inputs = encode(plain, [ask(plain, "what is it?", make_picture(120, 90))], 120)
    right, found = (first_logits(one, inputs, 120) for one in (plain, model))
    torch.testing.assert_close(found, right, rtol=0.05, atol=0.05)
