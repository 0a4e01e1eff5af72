"""The normalizer, and which reference an answer is compared with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from profiling.quality.normalizing import NORMALIZER, choose_reference, normalize


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A Red BUS.", "a red bus"),
        ("don't  stop\n\tnow!", "don't stop now"),
        ("coca-cola 3.5%", "coca cola 3 5"),
        ("snake_case", "snake_case"),
        ("Straße, ÉTÉ; 東京", "straße été 東京"),
        (" ... ?! ", ""),
        ("", ""),
    ],
)
def test_words_and_apostrophes_are_kept(text: str, words: str) -> None:
    assert NORMALIZER == "words-1"
    assert normalize(text) == words


@given(some.text())
def test_normalizing_twice_changes_nothing(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    assert "  " not in once and once == once.strip()


@pytest.mark.parametrize(
    ("references", "chosen"),
    [
        (("go", "Stop!", "stop", "STOP"), "Stop!"),
        (("b", "a", "a", "B"), "b"),
        (("...", "...", "...", "yes"), "yes"),
        (("...", ""), None),
        ((), None),
    ],
)
def test_majority_is_over_spellings_and_keeps_the_first_as_written(
    references: tuple[str, ...], chosen: str | None
) -> None:
    assert choose_reference(references, "majority") == chosen


@pytest.mark.parametrize(
    ("references", "chosen"),
    [(("Go!", "stop", "stop"), "Go!"), (("?", "stop"), None), ((), None)],
)
def test_the_first_reference_is_the_first_or_none(
    references: tuple[str, ...], chosen: str | None
) -> None:
    assert choose_reference(references, "first") == chosen
