"""ROUGE-L of captions: the longest common subsequence of words, averaged over samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum

from rapidfuzz.distance import LCSseq

from profiling.quality.normalizing import (
    NO_REFERENCE,
    NORMALIZER,
    NOT_COMPARABLE,
    pair_with_all,
)
from profiling.quality.registry import Answered, Judging, captions, metric
from profiling.records import MEASURED, Reading, reading, unavailable

# The weight of recall against precision, as in the COCO caption evaluation.
BETA = 1.2


@metric("rouge_l", applies=captions)
def score_rouge(answers: Sequence[Answered], _: Judging) -> Iterable[Reading]:
    pairs = pair_with_all(answers)
    if not pairs:
        return [unavailable("rouge_l", NO_REFERENCE)]
    value = fsum(measure_overlap(answer, references) for references, answer in pairs) / len(pairs)
    source = f"LCS by rapidfuzz, beta {BETA}, normalizer {NORMALIZER}; {NOT_COMPARABLE}"
    return [reading("rouge_l", value=value, status=MEASURED, source=source)]


def measure_overlap(answer: str, references: Sequence[str]) -> float:
    """F-beta of the best precision and the best recall over the references."""
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
