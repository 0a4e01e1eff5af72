"""Option accuracy: the share of multiple-choice answers that name the right option."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from profiling.quality.accuracy import read_accuracy
from profiling.quality.registry import OPTION, Answered, Judging, metric
from profiling.records import MEASURED, Reading, reading, unavailable

OPTION_NORMALIZER = "option-1"

_MARK = r"(?<![\w.,\-])(?:\d{1,2}(?![\w%]|[.,:/]\d)|[A-Ja-j](?!['\w]))"
_STATED = re.compile(
    rf"\b(?:answer|option|choice)(?:\s+(?:number|is|would be|must be))*\s*[:=]?\s*[(\[*\"']*"
    rf"({_MARK})(?P<after>.?)",
    re.IGNORECASE,
)
_LEADING = re.compile(rf"[\s(\[*\"']*({_MARK})(?P<after>.?)")
_BRACKETED = re.compile(rf"[(\[]\s*({_MARK})\s*[)\]]")


def parse_option(text: str) -> str | None:
    """The option that an answer names, as a digit string or an upper-case letter.

    A statement ("the answer is 2") has priority over an option at the start ("2. red", "(2) red"),
    and that over the only option in brackets. Of several statements the last one counts, because
    reasoning comes before it.
    """
    stated = [match for match in _STATED.finditer(text) if _is_option(match)]
    if stated:
        return _spell(stated[-1][1])
    leading = _LEADING.match(text)
    if leading and _is_option(leading):
        return _spell(leading[1])
    bracketed = {_spell(mark) for mark in _BRACKETED.findall(text)}
    return bracketed.pop() if len(bracketed) == 1 else None


def _is_option(match: re.Match[str]) -> bool:
    """A letter followed by a space is more likely a word ("a dog", "I see") than an option."""
    return match[1].isdigit() or not match["after"].isspace()


def _spell(mark: str) -> str:
    return str(int(mark)) if mark.isdigit() else mark.upper()


@metric("option_accuracy", applies=lambda judging: judging.accuracy == OPTION)
def score_options(answers: Sequence[Answered], _: Judging) -> Iterable[Reading]:
    """An answer without an option is wrong; a sample without one in its references is left out."""
    judged = [
        (parse_option(answered.answer), right)
        for answered in answers
        if (right := _right_options(answered.references))
    ]
    normalizer = f"normalizer {OPTION_NORMALIZER}"
    yield from read_accuracy(
        [float(named in right) for named, right in judged], "option_accuracy", normalizer
    )
    if not judged:
        yield unavailable("option_parse_failure_rate", "no reference names an option")
        return
    failures = sum(named is None for named, _ in judged)
    yield reading(
        "option_parse_failure_rate",
        value=failures / len(judged),
        status=MEASURED,
        source=normalizer,
    )


def _right_options(references: Sequence[str]) -> set[str]:
    return {option for option in map(parse_option, references) if option is not None}
