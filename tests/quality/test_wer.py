"""Word and character error rates against hand-counted edits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from profiling.quality import Answered, sample_wer, score
from profiling.quality.normalizing import normalize
from profiling.quality.wer import count_edits

WORDS = ["a", "red", "bus", "dog", "on", "the", "road"]
SENTENCES = some.lists(some.sampled_from(WORDS), max_size=8).map(" ".join)


def answer(*texts: str) -> Answered:
    return Answered(id=texts[0], answer=texts[0], references=texts[1:])


def read(answers: list[Answered], headline: str = "first") -> dict[str, float | None]:
    found = score(answers, headline=headline, accuracy="vqa")
    return {reading.metric: reading.value for reading in found}


@pytest.mark.parametrize(
    ("said", "wanted", "edits"),
    [
        ("a red bus", "a red bus", (0, 0, 0, 3)),
        ("a blue bus", "a red bus", (1, 0, 0, 3)),
        ("red bus", "a red bus", (0, 1, 0, 3)),
        ("a big red bus", "a red bus", (0, 0, 1, 3)),
        ("", "a red bus", (0, 3, 0, 3)),
        ("it is a stop sign", "stop", (0, 0, 4, 1)),
    ],
)
def test_edits_by_hand(said: str, wanted: str, edits: tuple[int, int, int, int]) -> None:
    found = count_edits(wanted, said)
    assert (
        found.substitutions,
        found.deletions,
        found.insertions,
        found.reference_words,
    ) == edits


def test_corpus_rate_is_of_all_words_and_not_the_mean_of_rates() -> None:
    values = read(
        [
            answer("it is a stop sign", "stop"),
            answer("a red bus on a road", "a red bus on the road"),
        ]
    )
    assert values["wer"] == pytest.approx((4 + 1) / (1 + 6))
    assert (values["wer_substitutions"], values["wer_deletions"]) == (1, 0)
    assert (values["wer_insertions"], values["wer_reference_words"]) == (4, 7)
    assert values["wer_mean_clipped"] == pytest.approx((1 + 1 / 6) / 2)


def test_case_and_punctuation_do_not_count() -> None:
    assert read([answer("STOP!!!", "stop"), answer("don't", "Don't.")])["wer"] == 0


def test_an_empty_reference_is_counted_and_left_out() -> None:
    values = read([answer("many words are said here", "..."), answer("bus", "dog")])
    assert values["wer"] == 1.0
    assert values["wer_reference_words"] == 1
    assert (values["empty_references"], values["wer_left_out_samples"]) == (1, 1)


def test_without_any_reference_the_rates_are_unavailable_with_the_reason() -> None:
    found = score([answer("bus", "?")], headline="first", accuracy="vqa")
    rates = {r.metric: r for r in found if r.metric in ("wer", "cer", "wer_best_reference")}
    assert len(rates) == 3
    for reading in rates.values():
        assert (reading.value, reading.status) == (None, "unavailable")
        assert "words-1" in reading.source


def test_no_answers_at_all_are_unavailable_and_not_zero() -> None:
    found = score([], headline="majority", accuracy="option")
    values = {reading.metric: reading.value for reading in found}
    assert values["wer"] is values["cer"] is values["accuracy"] is None


def test_majority_and_best_reference_differ() -> None:
    answers = [answer("go", "stop", "stop", "go"), answer("one way", "one way street", "yield")]
    values = read(answers, "majority")
    assert values["wer"] == pytest.approx((1 + 1) / (1 + 3))
    assert values["wer_best_reference"] == pytest.approx((0 + 1) / (1 + 3))


def test_character_rate_counts_spaces() -> None:
    assert read([answer("ab cd", "abcd")])["cer"] == pytest.approx(1 / 4)
    assert read([answer("kitten", "sitting")])["cer"] == pytest.approx(3 / 7)


def test_the_source_names_reference_and_normalizer() -> None:
    found = score([answer("bus", "bus")], headline="majority", accuracy="vqa")
    source = next(reading.source for reading in found if reading.metric == "wer")
    assert "majority reference" in source and "words-1" in source


def test_one_sample_has_its_own_rate() -> None:
    assert sample_wer("a big bus", ("a bus",), "first") == 0.5
    assert sample_wer("go", ("stop", "go", "go"), "majority") == 0.0
    assert sample_wer("go", ("!",), "first") is None


def test_the_interval_of_the_rate_is_around_it_and_not_below_zero() -> None:
    kinds = [answer("bus", "bus"), answer("a dog", "the dog"), answer("cat", "road")]
    values = read(8 * kinds)
    low, rate, high = (values[name] for name in ("wer_ci_low", "wer", "wer_ci_high"))
    assert low is not None and rate is not None and high is not None
    assert 0 <= low < rate < high


@pytest.mark.parametrize("count", [1, 8, 19])
def test_the_rate_of_few_samples_has_no_interval(count: int) -> None:
    values = read([answer("bus", "dog" if n % 2 else "bus") for n in range(count)])
    assert values["wer_ci_low"] is values["wer_ci_high"] is None


@settings(max_examples=30)
@given(some.lists(some.tuples(SENTENCES, SENTENCES), min_size=1, max_size=6), some.randoms())
def test_order_of_samples_changes_nothing(pairs: list[tuple[str, str]], chance) -> None:
    answers = [answer(*pair) for pair in pairs]
    shuffled = list(answers)
    chance.shuffle(shuffled)
    before, after = read(answers), read(shuffled)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name] == (None if value is None else pytest.approx(value, abs=1e-12))


@settings(max_examples=30)
@given(some.lists(SENTENCES.filter(bool), min_size=1, max_size=6))
def test_saying_the_reference_is_without_error(sentences: list[str]) -> None:
    values = read([answer(sentence.upper() + ".", sentence) for sentence in sentences])
    assert (values["wer"], values["cer"], values["wer_best_reference"]) == (0, 0, 0)


@given(SENTENCES, SENTENCES.filter(bool))
def test_edits_turn_the_length_of_one_into_the_other(said: str, wanted: str) -> None:
    edits = count_edits(normalize(wanted), normalize(said))
    assert edits.reference_words == len(wanted.split())
    assert edits.reference_words - edits.deletions + edits.insertions == len(said.split())


@settings(max_examples=30)
@given(SENTENCES, some.lists(SENTENCES.filter(bool), min_size=1, max_size=4))
def test_the_best_reference_is_no_worse_than_the_headline(said: str, wanted: list[str]) -> None:
    values = read([answer(said, *wanted)])
    assert values["wer_best_reference"] <= values["wer"]  # type: ignore[operator]
