"""The named, versioned text normalizer, and the reference that an answer is compared with."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from profiling.quality.registry import FIRST, Answered

NORMALIZER = "words-1"
_NOT_A_WORD = re.compile(r"[^\w']+")


def normalize(text: str) -> str:
    """Lower case; words divided by single spaces; only word characters and apostrophes are kept."""
    return _NOT_A_WORD.sub(" ", text.lower()).strip()


def choose_reference(references: Sequence[str], headline: str) -> str | None:
    """The reference, as it was written, that the headline error rate uses.

    The majority is counted over normalized spellings; on ties the first wins. References that are
    empty after normalization do not count. None where no reference is left.
    """
    if headline == FIRST:
        return references[0] if references and normalize(references[0]) else None
    votes = Counter(word for word in map(normalize, references) if word)
    if not votes:
        return None
    most = max(votes.values())
    return next(written for written in references if votes[normalize(written)] == most)


def pair_with_reference(answers: Sequence[Answered], headline: str) -> list[tuple[str, str]]:
    """(reference, answer), both normalized, of every sample that has a reference."""
    pairs = []
    for answered in answers:
        reference = choose_reference(answered.references, headline)
        if reference is not None:
            pairs.append((normalize(reference), normalize(answered.answer)))
    return pairs


def pair_with_all(answers: Sequence[Answered]) -> list[tuple[list[str], str]]:
    """(references, answer), all normalized, of every sample that has a reference."""
    pairs = []
    for answered in answers:
        references = [word for word in map(normalize, answered.references) if word]
        if references:
            pairs.append((references, normalize(answered.answer)))
    return pairs


NOT_COMPARABLE = "not comparable with published full-set values"
NO_REFERENCE = f"no sample has a reference that is not empty after normalizer {NORMALIZER}"
