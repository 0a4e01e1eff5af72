"""Fits a question to an exact number of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

# The first is repeated; the others fill gaps that it does not fit into.
NEUTRAL_WORDS = ("please", "now", "well", "so", "then", "just", "and", "here", ",", ".", "-", "!")

# Characters around a cut that are tried before the gap is filled instead.
_REACH = 24

TokenEnds = Callable[[str], Sequence[int]]
"""The end of each token of a question, in characters from the start of the question."""


class NoSuchLength(ValueError):
    """The tokenizer cannot truncate or pad a question to the requested length."""


def fit_question(question: str, length: int, token_ends: TokenEnds) -> str:
    """The question truncated, or padded with neutral words before it, to `length` tokens."""
    count = len(token_ends(question))
    if count == length:
        return question
    pieces = _cuts(question, length, token_ends) if count > length else iter([question])
    for piece in chain(pieces, NEUTRAL_WORDS):
        filled = _fill(piece, length, token_ends)
        if filled is not None:
            return filled
    raise NoSuchLength(f"{question!r:.60} can be neither truncated nor padded to {length} tokens")


def _cuts(question: str, length: int, token_ends: TokenEnds) -> Iterator[str]:
    """Beginnings of a question that is too long: those of the exact length, then shorter ones."""
    end = token_ends(question)[length - 1]
    # Without its successor the last token may be split differently.
    around = range(max(1, end - _REACH), min(len(question), end + _REACH))
    for position in (end, *sorted(around, key=lambda position: abs(position - end))):
        kept = question[:position]
        if kept.strip() and len(token_ends(kept)) == length:
            yield kept
    # A character of several tokens cannot be cut: words fill the gap.
    yield from (kept for p in range(end, 0, -1) if (kept := question[:p]).strip())


def _fill(question: str, length: int, token_ends: TokenEnds) -> str | None:
    filled = _fill_in_bulk(question, length, token_ends)
    while filled is not None and (count := len(token_ends(filled))) < length:
        filled = _add_one_word(filled, count, length, token_ends)
    return filled


def _fill_in_bulk(question: str, length: int, token_ends: TokenEnds) -> str | None:
    """The question after as many of the first word as fit; None if it is too long itself."""
    word = NEUTRAL_WORDS[0] + " "
    few, more = (len(token_ends(word * n + question)) for n in (4, 8))
    number = 4 + (length - few) * 4 // max(1, more - few)
    while number > 0 and len(token_ends(word * number + question)) > length:
        number -= 1
    filled = word * max(0, number) + question
    return filled if len(token_ends(filled)) <= length else None


def _add_one_word(filled: str, count: int, length: int, token_ends: TokenEnds) -> str | None:
    for word in NEUTRAL_WORDS:
        for longer in (f"{word} {filled}", f"{word}{filled}"):
            if count < len(token_ends(longer)) <= length:
                return longer
    return None
