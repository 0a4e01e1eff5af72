"""VQA accuracy by the official rule: agreement with the other people who answered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

from profiling.quality.accuracy import read_accuracy
from profiling.quality.registry import VQA, Answered, Judging, metric
from profiling.records import Reading

VQA_NORMALIZER = "vqa-answer-1"
AGREEING = 3
ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4"} | {
    "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"
}  # fmt: skip
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
# Only the contractions that are unambiguous once an apostrophe is missing.
CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
    mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll
    why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've
    you'll you're you've
"""
_STRAY_PERIOD = re.compile(r"\.(?!\d)")


def _drop_one_apostrophe(word: str) -> list[str]:
    return [word[:at] + word[at + 1 :] for at, letter in enumerate(word) if letter == "'"]


RESTORED = dict(
    chain.from_iterable(((w, c) for w in _drop_one_apostrophe(c)) for c in CONTRACTIONS.split())
)


def normalize_answer(text: str) -> str:
    """The answer processing of the official VQA and TextVQA evaluation."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = _STRAY_PERIOD.sub("", _strip_punctuation(" ".join(text.split("\n")).replace("\t", " ")))
    words = (NUMBERS.get(word, word) for word in text.split())
    return " ".join(RESTORED.get(word, word) for word in words if word not in ARTICLES)


def _strip_punctuation(text: str) -> str:
    """A mark that occurs beside a space is deleted everywhere, another one becomes a space."""
    stripped = text
    for mark in PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        stripped = stripped.replace(mark, "" if beside_space else " ")
    return stripped


def judge_answer(answer: str, references: Sequence[str]) -> float:
    """Mean of min(1, agreeing others / 3), each person left out in turn.

    With fewer than four people the 3 is the number of the others (with one person, that one), so
    that full agreement is 1 for every number of references.
    """
    given = normalize_answer(answer)
    agreeing = Counter(map(normalize_answer, references))[given]
    people = len(references)
    if people == 1:
        return float(agreeing)
    enough = min(AGREEING, people - 1)
    with_agreeing_left_out = agreeing * min(1.0, (agreeing - 1) / enough)
    with_another_left_out = (people - agreeing) * min(1.0, agreeing / enough)
    return (with_agreeing_left_out + with_another_left_out) / people


@metric("vqa_accuracy", applies=lambda judging: judging.accuracy == VQA)
def score_vqa(answers: Sequence[Answered], _: Judging) -> Iterable[Reading]:
    scores = sorted(judge_answer(a.answer, a.references) for a in answers if a.references)
    return read_accuracy(scores, "vqa_accuracy", f"normalizer {VQA_NORMALIZER}")
