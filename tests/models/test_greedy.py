"""Tokens are chosen as the library's greedy generate chooses them, or the setting is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy
import pytest
import torch
from transformers import GenerationConfig

from profiling.errors import Unsupported
from profiling.models.functional_family import find_functions
from profiling.models.greedy import Rules, choose, decode
from profiling.models.network_weights import generation_settings, nested_weights_of
from tests.tiny_models import ask_unevenly, encode, load

PADDING = 9


def scripted(rows: list[list[int]]) -> Any:
    """Logits by which each row's tokens follow one another."""
    steps = numpy.asarray(rows).T  # [n, B]
    table = numpy.eye(10, dtype=numpy.float32)[steps]  # [n, B, V]

    def step(token: Any, state: dict[str, Any]) -> Any:
        number = state["number"] + 1
        return table[number], {"number": number}

    return table[0], {"number": 0}, step


def rules(*ends: int, penalty: float = 1.0) -> Rules:
    return Rules(ends=ends, padding=PADDING, repetition_penalty=penalty)


def test_a_row_that_has_ended_is_filled_with_padding() -> None:
    logits, state, step = scripted([[1, 5, 3, 3], [1, 2, 3, 5]])
    tokens = decode(logits, state, step, length=4, rules=rules(5))
    assert tokens.tolist() == [[1, 5, PADDING, PADDING], [1, 2, 3, 5]]


def test_it_stops_when_every_row_has_ended() -> None:
    logits, state, step = scripted([[1, 5, 3, 3], [6, 2, 3, 3]])
    assert decode(logits, state, step, length=4, rules=rules(5, 6)).tolist() == [[1, 5], [6, 9]]


def test_with_an_exact_length_no_end_is_chosen() -> None:
    logits, state, step = scripted([[5, 5, 2]])
    marks: list[int] = []
    tokens = decode(logits, state, step, length=3, rules=rules(5), exact=True, mark=marks.append)
    assert tokens.tolist() == [[0, 0, 2]]
    assert marks == [1, 2, 3]


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_a_penalty_lowers_what_was_seen_on_either_side_of_zero(value: float) -> None:
    logits = numpy.asarray([[value, 0.9 * value if value > 0 else 1.1 * value]], numpy.float32)
    seen = numpy.asarray([[True, False]])
    assert choose(logits, None, None, 1.0).tolist() == [0]
    assert choose(logits, None, seen, 1.5).tolist() == [1]


@pytest.mark.parametrize("family", ["qwen25vl", "blip2_opt", "blip2_t5"])
def test_a_repetition_penalty_is_the_library_s(family: str) -> None:
    loaded = load(family)
    inputs = encode(loaded, ask_unevenly(loaded, 3), 112)
    settings = copy.deepcopy(loaded.network.generation_config)
    settings.repetition_penalty, settings.do_sample = 1.9, False
    settings.max_new_tokens = settings.min_new_tokens = 8
    with torch.inference_mode():
        options = loaded.family.layout.generate_options(112)
        generated = loaded.network.generate(**inputs, **options, generation_config=settings)
        settings.min_new_tokens = None
        found = find_functions(family).generate(
            {name: value.numpy() for name, value in inputs.items()},
            nested_weights_of(loaded.network, "numpy"),
            loaded.family.config.to_dict(),
            length=8,
            rules=Rules.of(settings),
            exact=True,
        )
    wanted = loaded.family.layout.new_tokens(generated, inputs).numpy()
    numpy.testing.assert_array_equal(found, wanted)


def test_rules_are_read_from_the_library_s_settings() -> None:
    settings = GenerationConfig(eos_token_id=[2, 0], pad_token_id=1, repetition_penalty=1.05)
    assert Rules.of(settings) == Rules(ends=(2, 0), padding=1, repetition_penalty=1.05)
    assert Rules.of(GenerationConfig(eos_token_id=7)) == Rules(ends=(7,), padding=7)
    assert Rules.of(GenerationConfig()).ends == ()
    # What only sampling reads changes nothing.
    Rules.of(GenerationConfig(eos_token_id=2, do_sample=True, temperature=0.1, top_k=3))


def test_the_settings_are_those_of_what_generates() -> None:
    for family, inner in (("blip2_opt", True), ("blip2_t5", True), ("llava", False)):
        loaded = load(family)
        network: Any = loaded.network
        generates = network.language_model if inner else network
        assert generation_settings(loaded.family, network) is generates.generation_config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_beams", 4),
        ("no_repeat_ngram_size", 3),
        ("suppress_tokens", [5]),
        ("forced_eos_token_id", 2),
        ("min_length", 5),
        ("stop_strings", ["end"]),
    ],
)
def test_a_setting_that_would_change_the_answer_is_refused(name: str, value: Any) -> None:
    with pytest.raises(Unsupported, match=rf"^generation_config.json has {name}="):
        Rules.of(GenerationConfig(eos_token_id=2, **{name: value}))
