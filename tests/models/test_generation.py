"""Answers are new tokens only, have the requested length, and do not depend on other rows."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from profiling.errors import Unsupported
from profiling.models.model import Model, Prepared
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import (
    FAMILIES,
    answer,
    ask,
    encode,
    first_logits,
    load,
    make_picture,
    model_name,
    row_ids,
)

QUESTIONS = ("what does the sign say?", "describe the picture", "which bar is the tallest?")
PROMPT_LENGTHS = (3, 17, 60)


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    return load(request.param).model


def native(model: Model) -> int:
    return compose_point(f"model={model_name(model)}").img_size


def ask_three(model: Model, lengths: tuple[int, ...]) -> list[Prepared]:
    return [
        ask(model, question, make_picture(240, 240 - 60 * i, seed=i), length)
        for i, (question, length) in enumerate(zip(QUESTIONS, lengths, strict=True))
    ]


def test_positions_that_were_not_learned_are_refused_before_anything_is_generated() -> None:
    model = load("blip2_opt").model
    side = native(model)
    inputs = encode(model, ask_three(model, PROMPT_LENGTHS)[:1], side)
    prompt, longest = inputs["input_ids"].shape[1], model.family.layout.longest
    assert longest is not None
    with pytest.raises(Unsupported, match=f"learned positions for {longest} tokens"):
        model.generate(inputs, side=side, length=longest - prompt + 2, exact=True)
    model.check_length(prompt, longest - prompt + 1)
    assert model.generate(inputs, side=side, length=2, exact=True).shape == (1, 2)
    assert [load(name).family.layout.longest for name in ("llava", "fuyu")] == [None, None]


@pytest.mark.parametrize(
    ("family", "first"),
    slow_except(
        product(FAMILIES, range(3)),
        *(("blip2_opt", 0), ("blip2_t5", 1), ("fuyu", 2), ("llava", 0), ("qwen25vl", 1)),
    ),
)
def test_a_row_of_a_batch_answers_as_it_does_alone(family: str, first: int) -> None:
    """The shortest, middle and longest prompt are row 0 in turn, so that some row is padded."""
    model = load(family).model
    side = native(model)
    lengths = PROMPT_LENGTHS[first:] + PROMPT_LENGTHS[:first]
    asked = ask_three(model, lengths)
    inputs = encode(model, asked, side)
    assert not inputs["attention_mask"].bool().all()
    together = first_logits(model, inputs, side)
    alone = first_logits(model, encode(model, asked[:1], side), side)
    scale = float(alone.abs().max())
    assert float((together[0] - alone[0]).abs().max()) < 1e-4 * scale
    assert answer(model, asked, side)[0] == answer(model, asked[:1], side)[0]


def test_the_prompt_of_a_row_does_not_depend_on_its_neighbours(model: Model) -> None:
    side = native(model)
    asked = ask_three(model, PROMPT_LENGTHS)
    together = encode(model, asked, side)
    for row, item in enumerate(asked):
        assert row_ids(together, row) == row_ids(encode(model, [item], side), 0)


@pytest.mark.parametrize("length", slow_except([1, 2, 9], 1, 9))
def test_a_timed_generation_has_exactly_the_requested_length(model: Model, length: int) -> None:
    side = native(model)
    inputs = encode(model, ask_three(model, PROMPT_LENGTHS), side)
    tokens = model.generate(inputs, side=side, length=length, exact=True)
    assert tokens.shape == (3, length)
    ends = torch.tensor(end_tokens(model))
    # After an early end token there would be padding.
    assert not torch.isin(tokens[:, : length - 1], ends).any()


def end_tokens(model: Model) -> list[int]:
    ends = model.network.generation_config.eos_token_id
    return [ends] if isinstance(ends, int) else list(ends)


def test_an_answer_is_what_was_chosen_and_nothing_else(model: Model) -> None:
    """No prompt, no start token: the answer is exactly the tokens that the head chose."""
    side, end = native(model), end_tokens(model)[0]
    word = model.family.processing.tokenizer("red", add_special_tokens=False)["input_ids"][-1]
    script = [word, word, end, word]
    inputs = encode(model, ask_three(model, PROMPT_LENGTHS), side)
    with Script(model, script):
        tokens = model.generate(inputs, side=side, length=8, exact=False)
    assert tokens.tolist() == [script[:3]] * 3
    assert model.count_new_tokens(tokens) == [3, 3, 3]
    texts = model.family.processing.decode(tokens)
    assert set(texts) == {model.family.processing.tokenizer.decode([word, word]).strip()}


class Script:
    """A head that chooses the same known tokens for every row, one a step."""

    def __init__(self, model: Model, tokens: list[int]) -> None:
        (self._head,) = model.parts()["head"]
        self._left = list(tokens)

    def __enter__(self) -> None:
        self._handle = self._head.register_forward_hook(self._choose)

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _choose(self, _module: object, _args: object, logits: torch.Tensor) -> torch.Tensor:
        chosen = torch.full_like(logits, -10.0)
        chosen[..., self._left.pop(0)] = 10.0
        return chosen


def test_a_stop_is_counted_at_each_row_s_own_end(model: Model) -> None:
    ends = end_tokens(model)
    padding = model.network.generation_config.pad_token_id
    other = next(i for i in range(5, 99) if i not in ends)
    tokens = torch.tensor(
        [
            [other, ends[0], padding, padding],
            [other, other, other, ends[-1]],
            [other, other, other, other],
            [ends[0], padding, padding, padding],
        ]
    )
    assert model.count_new_tokens(tokens) == [2, 4, 4, 1]


def test_an_answer_as_text_holds_neither_special_tokens_nor_blanks_around(model: Model) -> None:
    tokenizer = model.family.processing.tokenizer
    words = tokenizer("the red square", add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[*words, end_tokens(model)[0], tokenizer.pad_token_id]])
    assert model.family.processing.decode(ids) == ["the red square"]


def test_all_inputs_are_placed_on_the_device(model: Model) -> None:
    """None of the processor's tensors is dropped."""
    side = native(model)
    inputs = encode(model, ask_three(model, PROMPT_LENGTHS), side)
    assert {"input_ids", "attention_mask", "pixel_values"} <= inputs.keys()
    assert all(value.device == model.device for value in inputs.values())
    assert inputs["pixel_values"].dtype == model.dtype
