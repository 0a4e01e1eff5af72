"""Several pictures and clips in a prompt: as the library's own processor and generate have them."""

from __future__ import annotations

import ast
import math
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, CLIPImageProcessorPil, LlavaProcessor
from transformers.models.auto.modeling_auto import AutoModelForImageTextToText

from profiling.costs.accounting import geometry_of
from profiling.costs.counting import FlopCounter
from profiling.costs.fvcore_counting import count_with_fvcore
from profiling.costs.twin import analytic_by_phase, count
from profiling.engines.engine import find_engine
from profiling.engines.rows import describe_rows
from profiling.errors import Unsupported
from profiling.models.family import placed
from profiling.models.processing import Shown
from profiling.models.weights import CHECKPOINTS
from profiling.samples.showing import load_shown
from tests.composing import PROJECT, compose_point
from tests.showing import CLIPS, SEVERAL, ask_several, clip, pictures, show
from tests.tiny_models import FAMILIES, answer, encode, first_logits, load, make_picture

SIDE, LENGTH = 112, 6
TINY = CHECKPOINTS / "tiny"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def library_answer(family: str, inputs: dict[str, Tensor]) -> list[list[int]]:
    """What the library's own network makes of these inputs, loaded by the library."""
    network = AutoModelForImageTextToText.from_pretrained(TINY / family).eval()
    with torch.inference_mode():
        made = network.generate(
            **inputs, max_new_tokens=LENGTH, min_new_tokens=LENGTH, do_sample=False
        )
    return made[:, inputs["input_ids"].shape[1] :].tolist()


# Against the library


def test_llava_sees_what_its_own_processor_makes() -> None:
    engine = load("llava")
    folder = TINY / "llava"
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder, padding_side="left"),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=(folder / "chat_template.jinja").read_text(),
    )
    asked = ask_several(engine)
    texts = [
        processor.apply_chat_template(
            [
                {
                    "role": "user",
                    "content": [
                        *[{"type": "image"}] * len(one.shown.pictures),
                        {"type": "text", "text": one.question},
                    ],
                }
            ],
            add_generation_prompt=True,
        )
        for one in asked
    ]
    assert texts == [one.prompt for one in asked]
    made = processor(
        images=[picture for one in asked for picture in one.shown.pictures],
        text=texts,
        padding=True,
        return_tensors="pt",
    )
    inputs = encode(engine, asked, SIDE)
    assert inputs.keys() == made.keys()
    for name, value in made.items():
        assert torch.equal(value, inputs[name]), name
    assert answer(engine, asked, SIDE, LENGTH) == library_answer("llava", dict(made))


def test_qwen_sees_several_pictures_as_its_own_processor_makes_them() -> None:
    engine = load("qwen25vl")
    asked = [show(engine, "what?", pictures(n, first=n)) for n in (1, 3, 2)]
    processor = engine.family.processing.processor
    sized = [
        picture.resize(size, resample=3)
        for one in asked
        for picture in one.shown.pictures
        for size in [engine.family.processing.size_for(picture, SIDE)]
    ]
    texts = [
        processor.apply_chat_template(
            [
                {
                    "role": "user",
                    "content": [
                        *[{"type": "image"}] * len(one.shown.pictures),
                        {"type": "text", "text": "what?"},
                    ],
                }
            ],
            add_generation_prompt=True,
        )
        for one in asked
    ]
    made = processor(images=sized, text=texts, do_resize=False, padding=True, return_tensors="pt")
    assert answer(engine, asked, SIDE, LENGTH) == library_answer("qwen25vl", dict(made))


def library_patchify() -> Any:
    """The method of the library's video processor, whose module needs torchvision."""
    found = find_spec("transformers.models.qwen2_vl.video_processing_qwen2_vl")
    assert found is not None and found.origin is not None
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    (method,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "patchify"
    ]
    space: dict[str, Any] = {"torch": torch}
    module = ast.Module(body=[method], type_ignores=[])
    exec(compile(module, found.origin, "exec"), space)
    return space["patchify"]


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_clip_is_made_of_the_library_s_own_patches(frames: int) -> None:
    engine = load("qwen25vl")
    processing = engine.family.processing
    asked = [show(engine, "what moves?", clip(frames, fps=1.5))]
    inputs = encode(engine, asked, SIDE)
    images = processing.processor.image_processor
    seen = processing.resize(asked[0].shown.frames, SIDE)
    pixels = torch.from_numpy(numpy.stack(seen)).permute(0, 3, 1, 2).double() / 255
    mean, std = (
        torch.tensor(values, dtype=torch.float64)[:, None, None]
        for values in (images.image_mean, images.image_std)
    )
    expected, *grid = library_patchify()(None, ((pixels - mean) / std)[None], 14, 2, 2)
    made = inputs["pixel_values_videos"].double()
    torch.testing.assert_close(made, expected[0], rtol=1e-5, atol=1e-6)
    assert inputs["video_grid_thw"].tolist() == [grid]
    assert grid[0] == math.ceil(frames / 2)
    places = (inputs["input_ids"] == 6).sum().item()
    assert places == math.prod(grid) // 4
    assert inputs["second_per_grid_ts"].tolist() == pytest.approx([2 / 1.5])
    assert torch.equal(inputs["mm_token_type_ids"] == 2, inputs["input_ids"] == 6)
    assert answer(engine, asked, SIDE, LENGTH) == library_answer("qwen25vl", inputs)


def test_frames_have_positions_by_their_time() -> None:
    """Two tokens a second: the frames that are joined lie 2 / fps seconds apart."""
    engine = load("qwen25vl")
    for fps in (0.5, 1.5, 30.0):
        inputs = encode(engine, [show(engine, "what?", clip(6, fps=fps))], SIDE)
        named = ("input_ids", "mm_token_type_ids", "video_grid_thw", "second_per_grid_ts")
        with torch.inference_mode():
            positions, _ = engine.network.model.get_rope_index(
                **{name: inputs[name] for name in named}, attention_mask=inputs["attention_mask"]
            )
        visual = inputs["input_ids"][0] == 6
        times = positions[0, 0, visual].unique()
        assert (times - times[0]).tolist() == [
            *dict.fromkeys(math.floor(2 * 2 / fps * frame) for frame in range(3))
        ]


def test_times_keep_their_precision() -> None:
    inputs = load("qwen25vl").model.encode([show(load("qwen25vl"), "what?", clip(4, fps=7))], SIDE)
    half = placed(inputs, torch.device("cpu"), torch.bfloat16)
    assert half["pixel_values_videos"].dtype == torch.bfloat16
    assert torch.equal(half["second_per_grid_ts"], inputs["second_per_grid_ts"])


# Batches


@pytest.mark.parametrize("family", SEVERAL)
def test_uneven_rows_of_a_batch_are_answered_as_alone(family: str) -> None:
    engine = load(family)
    asked = ask_several(engine)
    inputs = encode(engine, asked, SIDE)
    assert not inputs["attention_mask"].all(dim=1).all()
    alone = [answer(engine, [one], SIDE, LENGTH)[0] for one in asked]
    assert answer(engine, asked, SIDE, LENGTH) == alone


@pytest.mark.parametrize("family", SEVERAL)
def test_every_picture_counts(family: str) -> None:
    engine = load(family)
    plain = pictures(3).pictures
    seen = [logits_of(engine, plain)]
    for number, picture in enumerate(plain):
        other = make_picture(*picture.size, seed=9)
        seen.append(logits_of(engine, (*plain[:number], other, *plain[number + 1 :])))
    assert not any(torch.equal(one, other) for one, other in combinations(seen, 2))


def logits_of(engine: Any, shown: tuple[Image.Image, ...]) -> Tensor:
    asked = show(engine, "what is in them?", Shown(pictures=shown))
    return first_logits(engine, encode(engine, [asked], SIDE), SIDE)


@pytest.mark.parametrize("family", SEVERAL)
def test_rows_say_what_was_shown(family: str) -> None:
    engine = load(family)
    asked = [
        show(engine, "what?", pictures(1)),
        show(engine, "what?", pictures(2)),
        show(engine, "what?", Shown(pictures=pictures(1).pictures * 3)),
    ]
    if family in CLIPS:
        asked.insert(1, show(engine, "what?", clip(3)))
    inputs = engine.model.encode(asked, SIDE)
    rows = describe_rows(engine.model, asked, inputs, None, processed=inputs)
    sizes = [(row.image_width, row.image_height) for row in rows]
    wide = engine.family.processing.size_for(make_picture(200, 100), SIDE)
    mixed = (None, None) if family in CLIPS else (SIDE, SIDE)
    tall = engine.family.processing.size_for(make_picture(90, 140), SIDE)
    assert sizes == [wide, *([tall] if family in CLIPS else []), mixed, wide]
    visual = [row.num_visual_tokens for row in rows]
    assert visual[-1] == 3 * visual[0]  # type: ignore[operator]


# Costs


@pytest.mark.parametrize("family", SEVERAL)
@pytest.mark.parametrize("side", [56, pytest.param(112, marks=pytest.mark.slow)])
def test_operators_arithmetic_and_the_running_network_count_the_same(
    family: str, side: int
) -> None:
    engine = load(family)
    asked = ask_several(engine, (2, 1, 3))
    geometry = geometry_of(engine.family, engine.model.encode(asked, side), LENGTH)
    assert geometry.batch_size == len(asked)
    counted = count(engine.family, geometry).by_phase()
    assert counted == analytic_by_phase(engine.family, geometry)
    with torch.inference_mode(), FlopCounter() as counter:
        answer(engine, asked, side, LENGTH)
    assert counter.flops == sum(value for value in counted.values() if value)


@pytest.mark.slow
def test_fvcore_counts_frames_as_well() -> None:
    engine = load("qwen25vl")
    geometry = geometry_of(
        engine.family, engine.model.encode([show(engine, "what?", clip(5))], 56), LENGTH
    )
    assert geometry.frames == (3,)
    counted = count(engine.family, geometry).by_phase()
    for phase, flops in count_with_fvcore(engine.family, geometry):
        if not isinstance(flops, str):
            assert flops == counted[phase]


def test_joined_frames_cost_what_pictures_cost_in_the_vision_part() -> None:
    engine = load("qwen25vl")
    one, four = (
        count(
            engine.family,
            geometry_of(engine.family, engine.model.encode([asked], SIDE), LENGTH),
        ).by_phase()
        for asked in (show(engine, "what?", clip(2)), show(engine, "what?", clip(8)))
    )
    assert four["vision"] == 4 * one["vision"]  # type: ignore[operator]
    assert four["projector"] == 4 * one["projector"]  # type: ignore[operator]


# What cannot be shown


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(SEVERAL)))
def test_a_family_of_one_picture_says_so_before_it_is_loaded(family: str) -> None:
    point = compose_point(f"model={family}")
    with pytest.raises(Unsupported, match=f"^model={family}: .*one picture$"):
        find_engine(point).check_samples(point, samples(num_pictures=2))


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(CLIPS)))
def test_a_family_without_clips_says_so_before_it_is_loaded(family: str) -> None:
    point = compose_point(f"model={family}")
    with pytest.raises(Unsupported, match=f"^model={family}: .*no clips$"):
        find_engine(point).check_samples(point, samples(num_frames=2))


def samples(**asked: int) -> Any:
    given = {"count": 2, "at_most": None, "num_pictures": None, "num_frames": None, "seed": 0}
    return load_shown(PROJECT / "datasets" / "textvqa", **(given | asked))  # type: ignore[arg-type]
