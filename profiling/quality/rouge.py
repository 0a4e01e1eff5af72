"""ROUGE-L of captions: the longest common run of words in order, averaged over samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum

from rapidfuzz.distance import LCSseq

from profiling.quality.normalizing import (
    NO_REFERENCE,
    NORMALIZER,
    NOT_COMPARABLE,
    pair_with_all,
    read_off,
)
from profiling.quality.registry import Answered, Judging, captions, metric
from profiling.records import Reading

# How much more recall weighs than precision, as in the COCO caption evaluation.
BETA = 1.2


@metric("rouge_l", applies=captions)
def score_rouge(answers: Sequence[Answered], _: Judging) -> Iterable[Reading]:
    pairs = pair_with_all(answers)
    if not pairs:
        return [read_off("rouge_l", None, NO_REFERENCE)]
    value = fsum(measure_overlap(answer, references) for references, answer in pairs) / len(pairs)
    source = f"LCS by rapidfuzz, beta {BETA}, normalizer {NORMALIZER}; {NOT_COMPARABLE}"
    return [read_off("rouge_l", value, source)]


def measure_overlap(answer: str, references: Sequence[str]) -> float:
    """Best precision and best recall over the references, joined as F-beta."""
    words = answer.split()
    if not words:
        return 0.0
    splits = [reference.split() for reference in references]
    common = [LCSseq.similarity(words, reference) for reference in splits]
    precision = max(common) / len(words)
    recall = max(n / len(reference) for n, reference in zip(common, splits, strict=True))
    if precision == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
