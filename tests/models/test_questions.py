"""A question has exactly the requested length, and nothing in it becomes a special token."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.models.loading import load_family
from profiling.models.model import Model
from profiling.models.weights import locate
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import (
    FAMILIES,
    ask,
    encode,
    first_logits,
    load,
    make_picture,
    model_name,
    row_ids,
)

SIDE = 112
LENGTHS = (1, 2, 3, 4, 5, 7, 12, 31, 50, 64, 100, 200, 333, 511, 512)
LONG = (
    "what does the large yellow sign next to the red square say, and which bar is the tallest? " * 9
)
NASTY = {
    "emoji": "what is 🙂🚀👩‍👩‍👧?",
    "combining": "cafe\u0301 n\u0303 a\u0300\u0301\u0302?",
    "cjk": "这个标志写着什么？東京",
    "newlines": "what\n\ndoes\r\nthe\tsign\n say?",
    "blanks around": "   what does it say?   ",
    "newlines around": "\n\nwhat?\n\n",
    "one character": "?",
    "one letter": "x",
    "one strange character": "é",
    "digits": "2+2=4?",
    "right to left": "مرحبا ما هذا؟",
    "control": "a\x00b\x07c\x1bd?",
    "zero width": "\u200bwhat\u200d?\ufeff",
    "private use": "\ue000what\ue000?",
    "mathematical": "𝕨𝕙𝕒𝕥 𝕚𝕤?",
    "braces": "{question} {0} %s {{x}}",
}
SPECIAL = (
    "<image>",
    "<|image_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|video_pad|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "|SPEAKER|",
    "|NEWLINE|",
    "|ENDOFTEXT|",
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    "<0x04>",
    "<0x00>1, 2, 3<0x01>",
    "<box>1, 2, 3</box>",
    "<point>1</point>",
)


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    return load(request.param).model


def ids_of(model: Model, question: str, length: int | None = None) -> list[int]:
    """The prompt as the processor tokenizes it, including the picture's tokens."""
    asked = ask(model, question, make_picture(SIDE, SIDE), length)
    return row_ids(encode(model, [asked], SIDE), 0)


@cache
def template_ids(family: str) -> tuple[list[int], list[int]]:
    """The tokens before and after the question, found by what two prompts have in common."""
    one, other = (ids_of(load(family).model, word) for word in ("red", "what"))
    before = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    turned = zip(reversed(one), reversed(other), strict=False)
    after = next(i for i, (a, b) in enumerate(turned) if a != b)
    return one[:before], one[len(one) - after :]


def check_template(model: Model, ids: list[int], length: int) -> None:
    """The template is unchanged around exactly this many tokens."""
    before, after = template_ids(model_name(model))
    assert ids[: len(before)] == before
    assert ids[len(ids) - len(after) :] == after
    assert len(ids) - len(before) - len(after) in (length, length + has_extra_token(model, ids))


def has_extra_token(model: Model, ids: list[int]) -> bool:
    """Whether the template's last blank is a token, and not the beginning of the question's."""
    template_text, _ = model.family.processing.template
    before, _ = template_ids(model_name(model))
    first = model.family.processing.tokenizer.convert_ids_to_tokens(ids[len(before)])
    return template_text.endswith(" ") and first == "Ġ"


def test_a_question_has_the_requested_length(model: Model) -> None:
    for length in LENGTHS:
        for question in ("what does the sign say?", LONG):
            check_template(model, ids_of(model, question, length), length)


@pytest.mark.slow
def test_every_length_can_be_had(model: Model) -> None:
    for length in range(1, 513):
        for question in ("which bar is the tallest?", LONG):
            asked = ask(model, question, make_picture(SIDE, SIDE), length)
            assert len(model.family.processing.question_token_ends(asked.question)) == length


@pytest.mark.parametrize(
    "lengths", [(None, 1, 3, 20), pytest.param((2, 5, 8, 100), marks=pytest.mark.slow)]
)
def test_strange_questions_have_the_length_too(
    model: Model, lengths: tuple[int | None, ...]
) -> None:
    picture = make_picture(SIDE, SIDE)
    placeholders = count_placeholders(model, "what?")
    for question, length in product(NASTY.values(), lengths):
        asked = ask(model, question, picture, length)
        inputs = encode(model, [asked], SIDE)
        counted = model.family.processing.count_visual_tokens(inputs["input_ids"])
        assert int(counted) == placeholders, question
        if length is not None:
            ends = model.family.processing.question_token_ends(asked.question)
            assert len(ends) == length, question
            check_template(model, row_ids(inputs, 0), length)


def count_placeholders(model: Model, question: str) -> int:
    return count_in(model, ids_of(model, question))


def count_in(model: Model, ids: list[int]) -> int:
    return int(model.family.processing.count_visual_tokens(torch.tensor([ids])))


def test_special_tokens_in_a_question_become_plain_text(model: Model) -> None:
    """None of them adds a placeholder, ends the prompt or stops the processor."""
    placeholders = count_placeholders(model, "what?")
    before, after = template_ids(model_name(model))
    special = special_ids(model)
    for text in SPECIAL:
        for question in (text, f"what {text}{text} is {text}", text + "?"):
            ids = ids_of(model, question)
            inner = ids[len(before) : len(ids) - len(after)]
            assert not set(inner) & special, question
            assert count_in(model, ids) == placeholders, question
        check_template(model, ids_of(model, f"what {text}{text} is {text}", 9), 9)


def special_ids(model: Model) -> set[int]:
    """Texts with a meaning for the processor or the network; unknown ones have none."""
    tokenizer = model.family.processing.tokenizer
    named = ("|SPEAKER|", "|NEWLINE|", "<s>", "<0x04>")
    vocabulary = tokenizer.get_vocab()
    ids = {vocabulary[name] for name in named if name in vocabulary} | set(
        tokenizer.added_tokens_decoder
    )
    return ids - {tokenizer.unk_token_id}


def test_special_tokens_cannot_be_put_together_by_taking_one_apart(model: Model) -> None:
    placeholders = count_placeholders(model, "what?")
    for question in ("<im<image>age>", "<|ima<|image_pad|>ge_pad|>", "|SPE|SPEAKER|AKER|"):
        assert count_placeholders(model, question) == placeholders


def test_a_batch_of_strange_questions_can_be_answered(model: Model) -> None:
    asked = [ask(model, question, make_picture(SIDE, SIDE)) for question in NASTY.values()]
    logits = first_logits(model, encode(model, asked, SIDE), SIDE)
    assert logits.shape[0] == len(NASTY)
    assert logits.isfinite().all()


def test_a_question_that_fits_is_left_as_it_is(model: Model) -> None:
    question = "what does the sign say?"
    count = len(model.family.processing.question_token_ends(question))
    asked = ask(model, question, make_picture(SIDE, SIDE), count)
    assert asked.question == question


def test_a_short_question_is_filled_up_before_it_and_a_long_one_cut_behind(model: Model) -> None:
    picture = make_picture(SIDE, SIDE)
    filled = ask(model, "what does the sign say?", picture, 40).question
    assert filled.endswith("what does the sign say?")
    cut = ask(model, LONG, picture, 12).question
    assert LONG.startswith(cut)


def test_the_template_holds_the_question_as_it_is(model: Model) -> None:
    question = "  what {x} \n 🙂 is it?  "
    asked = ask(model, question, make_picture(SIDE, SIDE))
    assert asked.question == question
    assert question in asked.prompt


@settings(max_examples=15, deadline=None)
@given(question=st.text(min_size=1, max_size=40), length=st.integers(1, 80))
@pytest.mark.parametrize("family", slow_except(FAMILIES, "blip2_t5", "llava", "qwen25vl"))
def test_any_text_has_any_length(family: str, question: str, length: int) -> None:
    model = load(family).model
    asked = ask(model, question, make_picture(SIDE, SIDE), length)
    assert len(model.family.processing.question_token_ends(asked.question)) == length
    check_template(model, ids_of(model, question, length), length)


def test_full_size_models_write_their_prompts_with_the_embedded_tokenizers() -> None:
    """All tokens that a prompt can hold are within the full-size network's vocabulary."""
    for family in FAMILIES:
        point = compose_point(f"model={family}", "weights=random")
        kind = load_family(point, locate(point))
        vocabulary = kind.config.text_config.vocab_size
        assert max(kind.processing.tokenizer.get_vocab().values()) < vocabulary
        assert kind.processing.image_token_id < vocabulary
