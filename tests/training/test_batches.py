"""What is fed in training is what the real processors make, and labels cover the answer alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image

from training.batches import IGNORED, join, make_batch
from training.evaluate import load_reader
from training.families import FAMILIES, find_family
from training.plan import read_plan
from training.scenes import PICTURE_SIZES, STEPPING_STONES, TASKS, draw_caption, draw_sign

QUESTIONS = ["please please what does the sign say?", "which bar? choices: (0) red", "Größe 日本"]


@pytest.mark.parametrize("name", FAMILIES)
def test_pixels_and_ids_equal_the_real_processors(name):
    family = find_family(name)
    pictures = [draw_sign(Random(i), held_out=False).picture for i in range(len(QUESTIONS))]
    for grid in (family.native, *family.others):
        real = family.encode(pictures, QUESTIONS, grid)
        for key, fed in family.pixels(pictures, grid).items():
            assert torch.equal(fed, real[key].reshape(fed.shape))
        for row, question in enumerate(QUESTIONS):
            ids = real["input_ids"][row][real["attention_mask"][row].bool()]
            assert family.prompt_ids(question, grid) == ids.tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_shaped_pictures_have_the_grids_that_runs_give_them(name):
    family = find_family(name)
    runs = load_reader(Path(__file__).parents[2] / "checkpoints" / "tiny" / name, name).family
    for shape, (rows, columns) in {(224, 224): family.native, **family.shaped}.items():
        seen = runs.processing.size_for(Image.new("RGB", shape), family.native[0] * family.patch)
        assert seen == (columns * family.patch, rows * family.patch)


def test_a_shaped_batch_is_drawn_in_one_shape_and_seen_so():
    family, plan = find_family("qwen25vl"), read_plan("qwen25vl", {"batch_size": 3})
    always = replace(plan, shaped_rate=1.0)
    batches = [make_batch(family, always, seed=0, step=step) for step in range(8)]
    assert {batch.grid for batch in batches} == set(family.shaped.values())
    never = replace(plan, shaped_rate=0.0)
    batches = [make_batch(family, never, seed=0, step=step) for step in range(8)]
    assert {batch.grid for batch in batches} == {family.native}


@pytest.mark.parametrize("task", [*TASKS, *STEPPING_STONES])
def test_the_shape_of_a_picture_may_be_asked_for(task):
    draw = {**TASKS, **STEPPING_STONES}[task]
    for size in PICTURE_SIZES:
        assert draw(Random(3), held_out=False, size=size).picture.size == size


@pytest.mark.parametrize("name", FAMILIES)
def test_every_text_survives_the_vocabulary(name):
    tokenizer = find_family(name).tokenizer
    for text in ("STOP 42", "an orange star, a red circle and a blue square", "Größe 日本 (0)"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids).strip() == text
    assert len(tokenizer) <= 700


@pytest.mark.parametrize("name", FAMILIES)
def test_known_words_are_one_token_and_signs_are_spelled(name):
    tokenizer = find_family(name).tokenizer
    plain = tokenizer(" please describe the triangle", add_special_tokens=False).input_ids
    assert len(plain) <= 5
    spelled = tokenizer("STOP", add_special_tokens=False).input_ids
    pieces = [piece.lstrip("▁") for piece in tokenizer.convert_ids_to_tokens(spelled)]
    assert [piece for piece in pieces if piece] == list("STOP")


def test_labels_are_the_next_token_over_the_answer_alone():
    ids, labels = join([[7, 8, 9], [7]], [[1, 2], [3, 4]], pad=0)
    assert ids.tolist() == [[7, 8, 9, 1, 2], [7, 3, 4, 0, 0]]
    none = IGNORED
    assert labels.tolist() == [[none, none, 1, 2, none], [3, 4, none, none, none]]


def test_a_batch_depends_on_seed_and_step_alone():
    family, plan = find_family("llava"), read_plan("llava", {"batch_size": 3, "look_steps": 0})
    first, again, other = (make_batch(family, plan, seed=0, step=step) for step in (5, 5, 6))
    assert first.prompts == again.prompts and first.answers == again.answers
    assert torch.equal(first.pixels["pixel_values"], again.pixels["pixel_values"])
    assert not torch.equal(first.pixels["pixel_values"], other.pixels["pixel_values"])


@pytest.mark.parametrize("name", FAMILIES)
def test_labels_follow_the_order_of_the_features(name):
    family = find_family(name)
    rows, columns = family.label_grid(family.native)
    scene = draw_caption(Random(0), held_out=False)
    numbered = torch.arange(rows * columns).reshape(1, rows, columns).numpy()
    ordered = family.order_labels(numbered)
    assert ordered.shape == (rows * columns // family.labels_per_token, family.labels_per_token)
    assert sorted(ordered.flatten().tolist()) == list(range(rows * columns))
    assert scene.marks
