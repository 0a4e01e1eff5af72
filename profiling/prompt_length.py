"""Making a question exactly as many tokens long as was asked for."""

from __future__ import annotations

from collections.abc import Callable

# The first is repeated; the others close a gap that it does not fit into.
NEUTRAL_WORDS = ("please", "now", "well", "so", "then", "just", "and", "here", ",", ".", "-", "!")

TokenEnds = Callable[[str], list[int]]
"""Where each token of a question ends, counted in characters from the question's beginning."""


class NoSuchLength(ValueError):
    """A tokenizer that cannot cut or fill a question to the length that was asked for."""


def fit_question(question: str, length: int, token_ends: TokenEnds) -> str:
    """The question cut, or filled up with neutral words before it, to exactly `length` tokens."""
    count = len(token_ends(question))
    if count > length:
        return _cut(question, length, token_ends)
    return _fill(question, length, token_ends) if count < length else question


def _cut(question: str, length: int, token_ends: TokenEnds) -> str:
    end = token_ends(question)[length - 1]
    # Alone, the last kept token may split differently than before its neighbour was cut away.
    nearby = sorted(range(1, len(question)), key=lambda position: abs(position - end))
    for position in [end, *nearby]:
        kept = question[:position]
        if kept.strip() and len(token_ends(kept)) == length:
            return kept
    return _fill(question[:1], length, token_ends)


def _fill(question: str, length: int, token_ends: TokenEnds) -> str:
    filled = _fill_in_bulk(question, length, token_ends)
    while (count := len(token_ends(filled))) < length:
        filled = _add_one_word(filled, count, length, token_ends)
    if count > length:
        raise NoSuchLength(f"no filling of {question!r} has {length} tokens")
    return filled


def _fill_in_bulk(question: str, length: int, token_ends: TokenEnds) -> str:
    word = NEUTRAL_WORDS[0] + " "
    few, more = (len(token_ends(word * n + question)) for n in (4, 8))
    missing = length - few
    if more <= few or missing <= 0:
        return question
    return word * (4 + int(missing * 4 / (more - few))) + question


def _add_one_word(filled: str, count: int, length: int, token_ends: TokenEnds) -> str:
    for word in NEUTRAL_WORDS:
        for longer in (f"{word} {filled}", f"{word}{filled}"):
            if count < len(token_ends(longer)) <= length:
                return longer
    raise NoSuchLength(f"no neutral word brings {count} tokens nearer to {length}")
