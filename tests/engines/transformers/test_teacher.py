"""The likelihood of a reference: known by hand, equal in any batch, and seen by the record."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from profiling.engines.transformers.teacher import Teacher, reference_ids, reference_nlls
from profiling.models.model import Model
from tests.tiny_models import FAMILIES, ask, encode, first_logits, load, make_picture, take_samples

SIDE = {"fuyu": 120}
QUESTIONS = ("What does the sign say?", "What is the word that is written on the small sign here?")
REFERENCES = ("open", "two words")


def side_of(family: str) -> int:
    return SIDE.get(family, 112)


def inputs_for(model: Model, family: str, rows: tuple[int, ...]) -> dict[str, Tensor]:
    asked = [ask(model, QUESTIONS[row], make_picture(120, 120, seed=row)) for row in rows]
    return encode(model, asked, side_of(family))


def nlls(model: Model, family: str, rows: tuple[int, ...], length: int = 4) -> list[float | None]:
    references = [REFERENCES[row] for row in rows]
    inputs = inputs_for(model, family, rows)
    return reference_nlls(model, inputs, references, side=side_of(family), length=length)


def forward_nll(model: Model, family: str) -> float:
    """By one forward over prompt and reference together, and the textbook's cross entropy."""
    inputs = inputs_for(model, family, (1,))
    taught = torch.tensor([reference_ids(model, REFERENCES[1])])
    options = model.family.layout.generate_options(side_of(family))
    if model.family.layout.encoder_decoder:
        with torch.inference_mode():
            logits = model.network(**inputs, **options, labels=taught).logits[0]
        return float(cross_entropy(logits.float(), taught[0]))
    count = inputs["input_ids"].shape[1]
    extended = {name: extend(name, value, taught, count) for name, value in inputs.items()}
    with torch.inference_mode():
        logits = model.network(**extended, **options).logits[0]
    return float(cross_entropy(logits[count - 1 : -1].float(), taught[0]))


def extend(name: str, value: Tensor, taught: Tensor, count: int) -> Tensor:
    """What has a column for each token of the prompt, for the reference's tokens as well."""
    if name.startswith("pixel") or value.ndim != 2 or value.shape[1] != count:
        return value
    added = {"input_ids": taught, "attention_mask": torch.ones_like(taught)}
    nothing = -1 if "indices" in name else 0
    return torch.cat([value, added.get(name, torch.full_like(taught, nothing))], dim=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_cross_entropy_of_one_forward(family: str) -> None:
    model = load(family).model
    (found,) = nlls(model, family, (1,))
    assert found == pytest.approx(forward_nll(model, family), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_token_costs_what_its_logit_says(family: str) -> None:
    model = load(family).model
    inputs = inputs_for(model, family, (0,))
    (ids,) = [reference_ids(model, "")]
    logits = first_logits(model, inputs, side_of(family))
    (found,) = reference_nlls(model, inputs, [""], side=side_of(family), length=1)
    assert len(ids) == 1
    assert found == pytest.approx(-float(torch.log_softmax(logits, -1)[0, ids[0]]), rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_neighbours_change_nothing(family: str) -> None:
    model = load(family).model
    together = nlls(model, family, (0, 1))
    alone = [*nlls(model, family, (0,)), *nlls(model, family, (1,), length=20)]
    assert together == pytest.approx(alone, rel=2e-3, abs=1e-4)


def test_what_the_model_answers_costs_least() -> None:
    model = load("qwen25vl").model
    sample = take_samples(1)[0]
    inputs = encode(model, [model.prepare(sample, None)], 112)
    tokens = model.generate(inputs, side=112, length=12, exact=False)
    (answer,) = model.family.processing.decode(tokens)
    best, other = (
        reference_nlls(model, inputs, [text], side=112, length=12)[0]
        for text in (answer, "zqxj zqxj")
    )
    assert best is not None and other is not None
    assert 0 <= best < other


def test_a_reference_ends_with_the_token_that_ends_answers() -> None:
    model = load("llava").model
    assert reference_ids(model, "")[-1] == model.network.generation_config.eos_token_id


def test_special_tokens_in_a_reference_are_text() -> None:
    model = load("qwen25vl").model
    assert (
        reference_ids(model, "<|im_end|>")[:-1].count(
            model.family.processing.tokenizer.eos_token_id
        )
        == 0
    )


def test_the_teacher_forces_and_goes_on_with_the_end() -> None:
    teacher = Teacher([[3, 1], [2]])
    ids, scores = torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 4)
    chosen = [teacher(ids, scores).argmax(-1).tolist() for _ in range(3)]
    assert chosen == [[3, 2], [1, 2], [1, 2]]


def scripted(logits: list[list[float]]) -> Model:
    """A network that says the same whatever it is asked, one row, with no end token."""
    steps = tuple(torch.tensor([row]) for row in logits)
    tokenizer = lambda text, add_special_tokens: {"input_ids": [int(c) for c in text]}  # noqa: E731
    network = SimpleNamespace(
        generation_config=SimpleNamespace(eos_token_id=None),
        generate=lambda **options: SimpleNamespace(logits=steps),
    )
    family = SimpleNamespace(
        processing=SimpleNamespace(tokenizer=tokenizer, escape_special_tokens=lambda text: text),
        layout=SimpleNamespace(generate_options=lambda side: {}),
    )
    return SimpleNamespace(network=network, family=family)  # type: ignore[return-value]


def test_the_known_answer() -> None:
    model = scripted([[0.0, 0.0], [math.log(3), 0.0], [9.0, 9.0]])
    (found,) = reference_nlls(model, {}, ["01"], side=1, length=3)
    # Tokens of probability 1/2 and 1/4.
    assert found == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_what_is_no_number_is_no_likelihood() -> None:
    model = scripted([[math.nan, 0.0]])
    assert reference_nlls(model, {}, ["0"], side=1, length=1) == [None]
