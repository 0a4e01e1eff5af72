"""The drawn pictures: alike for the same seed, with a test world of their own."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy
import pytest

from training import lexicon
from training.draw import draw_scenes
from training.scenes import STEPPING_STONES, TASKS, Mark, draw_sign, label_patches

EVERY_TASK = sorted(TASKS | STEPPING_STONES)


def _draw(task: str, seed: int, *, held_out: bool):
    return (TASKS | STEPPING_STONES)[task](Random(seed), held_out=held_out)


@pytest.mark.parametrize("task", EVERY_TASK)
def test_same_seed_draws_the_same(task):
    first, second = (_draw(task, 7, held_out=False) for _ in range(2))
    assert first.picture.tobytes() == second.picture.tobytes()
    assert (first.request, first.references) == (second.request, second.references)


@pytest.mark.parametrize("task", EVERY_TASK)
def test_marks_lie_in_the_picture(task):
    for seed in range(40):
        scene = _draw(task, seed, held_out=False)
        assert scene.marks
        for mark in scene.marks:
            assert -0.05 <= mark.left < mark.right <= 1.05
            assert -0.05 <= mark.top < mark.bottom <= 1.05


def test_training_never_shows_a_held_out_word():
    shown = {
        word for seed in range(800) for word in _draw("sign", seed, held_out=False).answer.split()
    }
    assert shown & set(lexicon.TRAINING_WORDS)
    assert not shown & set(lexicon.HELD_OUT_WORDS)


def _share_of_doubled(rate: float) -> float:
    signs = [draw_sign(Random(seed), held_out=False, doubled_rate=rate) for seed in range(800)]
    words = [word for sign in signs for word in sign.answer.split()]
    made_up = [w for w in words if w not in lexicon.TRAINING_WORDS and not w.isdigit()]
    return sum(any(a == b for a, b in pairwise(w)) for w in made_up) / len(made_up)


@pytest.mark.slow
def test_signs_double_a_character_as_often_as_they_are_told():
    assert _share_of_doubled(0.0) < 0.12
    assert 0.3 < _share_of_doubled(0.4) < 0.55
    assert _share_of_doubled(1.0) == 1.0


def test_test_world_shows_held_out_words():
    shown = {
        word for scene in draw_scenes("sign", seed=1, count=300) for word in scene.answer.split()
    }
    assert set(lexicon.HELD_OUT_WORDS) <= shown


@pytest.mark.slow
def test_worlds_share_no_arrangement_of_several_shapes():
    def arrangements(held_out: bool) -> set[str]:
        answers = {_draw("caption", seed, held_out=held_out).answer for seed in range(4000)}
        return {answer for answer in answers if " left of " in answer or " above " in answer}

    training, test = arrangements(False), arrangements(True)
    assert training and test
    assert not training & test


def test_word_lists_are_disjoint_and_spelled_in_known_characters():
    assert not set(lexicon.TRAINING_WORDS) & set(lexicon.HELD_OUT_WORDS)
    words = {*lexicon.TRAINING_WORDS, *lexicon.HELD_OUT_WORDS}
    assert set("".join(words)) <= set(lexicon.CHARACTERS)


def test_choice_answers_with_the_number_of_the_right_option():
    for seed in range(50):
        open_question = _draw("colour", seed, held_out=False)
        choice = _draw("choice", seed, held_out=False)
        assert f"({choice.answer}) {open_question.answer}" in choice.request
        assert open_question.request in choice.request


def test_a_sign_has_ten_references_and_most_are_right():
    disagreeing = 0
    for scene in draw_scenes("sign", seed=3, count=60):
        assert len(scene.references) == 10
        assert scene.references.count(scene.answer) >= 6
        disagreeing += len(set(scene.references)) > 1
    assert disagreeing > 20


def test_labels_mark_the_patches_whose_centre_is_covered():
    mark = Mark(kind=5, left=0.25, top=0.0, right=0.76, bottom=0.5)
    expected = numpy.zeros((4, 4), dtype=numpy.int64)
    expected[:2, 1:3] = 5
    assert numpy.array_equal(label_patches((mark,), 4, 4), expected)
