"""BLEU-4, ROUGE-L and CIDEr-D against hand-worked captions and published implementations."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from profiling.quality import Answered, score
from profiling.quality.rouge import measure_overlap
from profiling.records import Reading

CAPTION_METRICS = ("bleu4", "rouge_l", "cider_d")
CAPTIONS = some.lists(
    some.sampled_from(["a", "red", "bus", "dog", "on", "the", "road"]), min_size=4, max_size=8
).map(" ".join)


def read(*answers: tuple[str, ...]) -> dict[str, Reading]:
    found = score(
        [Answered(id=str(n), answer=a[0], references=a[1:]) for n, a in enumerate(answers)],
        headline="first",
        accuracy=None,
    )
    return {reading.metric: reading for reading in found}


def test_bleu_by_hand() -> None:
    value = read(("a b c d e", "a b c d f"))["bleu4"].value
    assert value == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4))


def test_bleu_punishes_what_is_short_by_the_nearest_reference() -> None:
    value = read(("a b c d", "a b c d e", "a b c d e f g h"), ("a b c d", "a b c d"))["bleu4"].value
    assert value == pytest.approx(math.exp(1 - 9 / 8))


def test_a_reference_that_a_sample_does_not_have_is_not_the_nearest() -> None:
    value = read(("a b c d e", "a b c d e", "x y"), ("a", "a b c"))["bleu4"].value
    assert value == pytest.approx(math.exp(1 - 8 / 6))


def test_rouge_by_hand() -> None:
    precision, recall = 3 / 4, 3 / 5
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert measure_overlap("a x c d", ["a b c d e"]) == pytest.approx(expected)
    assert measure_overlap("", ["a b"]) == 0.0
    assert measure_overlap("x", ["a b"]) == 0.0


def test_cider_by_hand() -> None:
    # Two samples that share no word: every word is as rare, and a caption equal to its only
    # reference is 10 times the share of run lengths that it has (two words: 2 of 4).
    assert read(("red bus", "red bus"), ("big dog", "big dog"))["cider_d"].value == pytest.approx(5)
    wrong = read(("red bus", "red bus"), ("red bus", "big dog"))["cider_d"].value
    assert wrong == pytest.approx(2.5)


def test_cider_is_that_of_the_coco_caption_evaluation() -> None:
    # Worked out with pycocoevalcap 1.2, which brings 100 MB of Java archives along.
    value = read(
        ("a red bus on the road", "a red bus on a road", "the bus is red"),
        ("two dogs are sitting in the grass", "two dogs sit in the grass", "dogs on grass"),
        ("a man rides a bike", "a person riding a bicycle", "a man on a bike rides"),
    )["cider_d"].value
    assert value == pytest.approx(2.7724469330657033, rel=1e-9)


def test_rouge_is_that_of_the_coco_caption_evaluation() -> None:
    value = read(
        ("a red bus on the road", "a red bus on a road", "the bus is red"),
        ("two dogs are sitting in the grass", "two dogs sit in the grass", "dogs on grass"),
    )["rouge_l"].value
    assert value == pytest.approx(0.8066922421142371, rel=1e-9)


def test_captions_are_marked_as_not_comparable() -> None:
    found = read(("a red bus on a road", "a red bus on a road"), ("a dog", "a dog"))
    for name in CAPTION_METRICS:
        assert "not comparable" in found[name].source
        assert "words-1" in found[name].source


def test_captions_alone_are_judged_as_captions() -> None:
    found = score(
        [Answered(id="1", answer="bus", references=("bus",))], headline="first", accuracy="vqa"
    )
    assert not {reading.metric for reading in found} & set(CAPTION_METRICS)


def test_rarity_needs_two_samples() -> None:
    reading = read(("a bus", "a bus"))["cider_d"]
    assert (reading.value, reading.status) == (None, "unavailable")


def test_captions_without_references_are_unavailable() -> None:
    found = read(("a bus", "!"))
    assert all(found[name].value is None for name in CAPTION_METRICS)


def test_bleu_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiling.quality.bleu.find_spec", lambda _: None)
    reading = read(("a bus", "a bus"))["bleu4"]
    assert reading.value is None
    assert "sacrebleu" in reading.source


@pytest.mark.slow
@given(some.lists(CAPTIONS, min_size=2, max_size=6, unique=True))
def test_saying_the_reference_is_best(captions: list[str]) -> None:
    found = read(*((caption, caption) for caption in captions))
    assert found["bleu4"].value == pytest.approx(1.0)
    assert found["rouge_l"].value == pytest.approx(1.0)


@settings(max_examples=30)
@given(some.lists(some.tuples(CAPTIONS, CAPTIONS), min_size=2, max_size=6), some.randoms())
def test_order_of_samples_changes_nothing(pairs: list[tuple[str, str]], chance) -> None:
    before = read(*pairs)
    chance.shuffle(pairs)
    after = read(*pairs)
    for name in CAPTION_METRICS:
        assert after[name].value == pytest.approx(before[name].value, abs=1e-12)
