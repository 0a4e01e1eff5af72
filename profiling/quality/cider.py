"""CIDEr-D of captions: similarity of rare n-grams, after Vedantam, Zitnick and Parikh (2015)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from profiling.quality.normalizing import (
    NO_REFERENCE,
    NORMALIZER,
    NOT_COMPARABLE,
    pair_with_all,
)
from profiling.quality.registry import Answered, Judging, captions, metric
from profiling.records import MEASURED, Reading, reading, unavailable

LONGEST = 4
SIGMA = 6.0
Weights = Mapping[tuple[str, ...], float]


@metric("cider_d", applies=captions)
def score_cider(answers: Sequence[Answered], _: Judging) -> Iterable[Reading]:
    pairs = pair_with_all(answers)
    if not pairs:
        return [unavailable("cider_d", NO_REFERENCE)]
    if len(pairs) < 2:
        return [unavailable("cider_d", "the rarity of an n-gram needs at least two samples")]
    rarity = _measure_rarity([references for references, _ in pairs])
    value = math.fsum(_judge(a, refs, rarity, len(pairs)) for refs, a in pairs) / len(pairs)
    source = f"own CIDEr-D on {len(pairs)} samples, normalizer {NORMALIZER}; {NOT_COMPARABLE}"
    return [reading("cider_d", value=value, status=MEASURED, source=source)]


def _measure_rarity(references: Sequence[Sequence[str]]) -> dict[tuple[str, ...], float]:
    """log(samples / samples whose references hold the n-gram)."""
    seen: Counter[tuple[str, ...]] = Counter()
    for texts in references:
        seen.update({ngram for text in texts for ngram in _count_ngrams(text)})
    return {ngram: math.log(len(references) / count) for ngram, count in seen.items()}


def _count_ngrams(text: str) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(
        tuple(words[start : start + length])
        for length in range(1, LONGEST + 1)
        for start in range(len(words) - length + 1)
    )


def _judge(answer: str, references: Sequence[str], rarity: Weights, samples: int) -> float:
    unseen = math.log(samples)
    given = _weigh(answer, rarity, unseen)
    similarities = [
        _compare(given, _weigh(reference, rarity, unseen)) * _length_penalty(answer, reference)
        for reference in references
    ]
    return 10 * math.fsum(similarities) / len(similarities)


def _weigh(text: str, rarity: Weights, unseen: float) -> list[dict[tuple[str, ...], float]]:
    """Counts times rarity, one table per length of n-gram."""
    tables: list[dict[tuple[str, ...], float]] = [{} for _ in range(LONGEST)]
    for ngram, count in _count_ngrams(text).items():
        tables[len(ngram) - 1][ngram] = count * rarity.get(ngram, unseen)
    return tables


def _compare(given: Sequence[Weights], wanted: Sequence[Weights]) -> float:
    """Cosine with the answer's weights clipped to the reference's, averaged over lengths."""
    cosines = []
    for ours, theirs in zip(given, wanted, strict=True):
        shared = math.fsum(
            min(w, theirs[ngram]) * theirs[ngram] for ngram, w in ours.items() if ngram in theirs
        )
        size = math.hypot(*ours.values()) * math.hypot(*theirs.values())
        cosines.append(shared / size if size else 0.0)
    return math.fsum(cosines) / LONGEST


def _length_penalty(answer: str, reference: str) -> float:
    """A Gaussian of the difference in length, so that repetition does not raise the score."""
    difference = len(answer.split()) - len(reference.split())
    return math.exp(-(difference**2) / (2 * SIGMA**2))
