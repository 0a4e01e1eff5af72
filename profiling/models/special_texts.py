"""Questions in which nothing becomes a special token."""

from __future__ import annotations

from collections.abc import Iterable


def escape_special_texts(question: str, texts: Iterable[str]) -> str:
    """The question with a space inside whatever the tokenizer takes for a special token."""
    for token in sorted(texts, key=len, reverse=True):
        question = question.replace(token, token[:1] + " " + token[1:])
    return question
