"""Questions are cut and filled to any length by tokenizers as the public checkpoints have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from profiling.samples.prompt_length import (
    NEUTRAL_WORDS,
    NoSuchLength,
    TokenEnds,
    fit_question,
)
from tests.marking import slow_except

TEXT = [
    "what does the sign say, please? now well so then just and here.",
    "Question: which of the two bars is taller - the red one or the blue one! Answer:",
    "please describe the picture in one sentence. please please please",
    "A short answer please: what colour is the car, and who is driving it?",
] * 30
LENGTHS = (1, 2, 3, 4, 5, 6, 9, 17, 50, 128, 200, 511, 512)
QUESTIONS = (
    "what does the sign say?",
    "x",
    "?",
    "🙂",
    "🙂🚀👩‍👩‍👧 what?",
    "这个标志写着什么？",
    "e\u0301\u0302\u0303",
    "  what  ",
    "\n\nwhat\n",
    "\u200b",
    "what does the red sign next to the blue square say, " * 60,
    "字" * 700,
    "a" * 900,
)


def byte_level() -> Tokenizer:
    """As GPT-2, OPT and Qwen have it: blanks belong to the word behind them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def piece_level() -> Tokenizer:
    """As T5 has it: a mark for each blank, and unknown characters are one token together."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=200, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def fallback_level() -> Tokenizer:
    """As Llama has it: the mark is put in front of a text once, unknown characters are bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    codes = [f"<0x{code:02X}>" for code in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>"], initial_alphabet=["▁"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    vocabulary, merges = read_model(tokenizer)
    for code in codes:
        vocabulary[code] = len(vocabulary)
    tokenizer.model = models.BPE(
        vocab=vocabulary, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"
    )
    return tokenizer


def read_model(tokenizer: Tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = json.loads(tokenizer.to_str())["model"]
    return dict(model["vocab"]), [(left, right) for left, right in model["merges"]]


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "piece-level": piece_level,
    "fallback": fallback_level,
}
FRAMES = (("", "\n"), ("Question: ", " Answer:"), ("USER: \n", " ASSISTANT:"))


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return KINDS[request.param]()


def ends_in(tokenizer: Tokenizer, before: str, after: str) -> TokenEnds:
    def token_ends(question: str) -> list[int]:
        start, stop = len(before), len(before) + len(question)
        offsets = tokenizer.encode(before + question + after).offsets
        return [min(e, stop) - start for s, e in offsets if s < stop and e > start]

    return token_ends


@pytest.mark.parametrize("number", slow_except(range(len(FRAMES)), 1))
def test_every_kind_of_tokenizer_gives_every_length(tokenizer: Tokenizer, number: int) -> None:
    token_ends = ends_in(tokenizer, *FRAMES[number])
    for question, length in product(QUESTIONS, LENGTHS):
        fitted = fit_question(question, length, token_ends)
        assert len(token_ends(fitted)) == length, question


def count_characters(question: str) -> list[int]:
    """A tokenizer whose tokens are characters."""
    return list(range(1, len(question) + 1))


def test_a_question_of_the_right_length_is_left_alone() -> None:
    assert fit_question("what?", 5, count_characters) == "what?"


def test_a_long_question_keeps_its_beginning() -> None:
    assert fit_question("what does it say?", 4, count_characters) == "what"


def test_a_short_question_keeps_its_end_and_gets_neutral_words_before_it() -> None:
    fitted = fit_question("what?", 40, count_characters)
    assert fitted.endswith("what?")
    assert len(fitted) == 40
    words = fitted.removesuffix("what?").replace(" ", "")
    for word in sorted(NEUTRAL_WORDS, key=len, reverse=True):
        words = words.replace(word, "")
    assert words == ""


def test_a_cut_is_never_blank() -> None:
    assert fit_question("     what", 3, count_characters).strip()


def test_a_character_of_several_tokens_gives_way_to_words() -> None:
    def token_ends(question: str) -> list[int]:
        counts = [5 if character == "🙂" else 1 for character in question]
        return [end for end, count in enumerate(counts, 1) for _ in range(count)]

    for length in (1, 2, 3, 4, 6, 7, 8, 9):
        assert len(token_ends(fit_question("🙂🙂", length, token_ends))) == length


def test_a_tokenizer_that_skips_a_length_is_named_as_such() -> None:
    def token_ends(question: str) -> list[int]:
        return [end for end in range(1, len(question) + 1) for _ in range(2)]

    with pytest.raises(NoSuchLength, match="7 tokens"):
        fit_question("what?", 7, token_ends)
