"""Word error rate over the whole set of samples, and the counts of edits behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jiwer

from profiling.quality.normalizing import (
    NO_REFERENCE,
    NORMALIZER,
    choose_reference,
    normalize,
    pair_with_all,
    pair_with_reference,
)
from profiling.quality.registry import Answered, Judging, always, metric
from profiling.records import DERIVED, MEASURED, Reading, reading, unavailable
from profiling.statistics.skewed_means import LEAST_SAMPLES, bound_ratio

COLUMNS = (
    "wer",
    "wer_substitutions",
    "wer_deletions",
    "wer_insertions",
    "wer_reference_words",
    "wer_mean_clipped",
    "wer_best_reference",
)
BOUNDS = ("wer_ci_low", "wer_ci_high")


@dataclass(frozen=True, kw_only=True)
class Edits:
    """The edits of words that turn a reference into an answer."""

    substitutions: int
    deletions: int
    insertions: int
    reference_words: int

    @property
    def total(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        return self.total / self.reference_words


def count_edits(reference: str, answer: str) -> Edits:
    """The edits between two normalized texts; the reference must not be empty."""
    output = jiwer.process_words(reference, answer)
    return Edits(
        substitutions=output.substitutions,
        deletions=output.deletions,
        insertions=output.insertions,
        reference_words=output.hits + output.substitutions + output.deletions,
    )


def sample_wer(answer: str, references: Sequence[str], headline: str) -> float | None:
    """The error rate of one answer; None where no reference is left after normalization."""
    reference = choose_reference(references, headline)
    if reference is None:
        return None
    return count_edits(normalize(reference), normalize(answer)).rate


@metric("wer", applies=always)
def score_wer(answers: Sequence[Answered], judging: Judging) -> Iterable[Reading]:
    pairs = pair_with_reference(answers, judging.headline)
    if not pairs:
        return [unavailable(name, NO_REFERENCE) for name in (*COLUMNS, *BOUNDS)]
    edits = [count_edits(reference, answer) for reference, answer in pairs]
    source = f"jiwer, {judging.headline} reference, normalizer {NORMALIZER}"
    values = _add_up(edits) | {"wer_best_reference": find_best_rate(answers)}
    rows = [reading(name, value=values[name], status=MEASURED, source=source) for name in COLUMNS]
    return [*rows, *_bound(edits, source)]


def _add_up(edits: Sequence[Edits]) -> dict[str, float]:
    words = sum(edit.reference_words for edit in edits)
    return {
        "wer": sum(edit.total for edit in edits) / words,
        "wer_substitutions": sum(edit.substitutions for edit in edits),
        "wer_deletions": sum(edit.deletions for edit in edits),
        "wer_insertions": sum(edit.insertions for edit in edits),
        "wer_reference_words": words,
        "wer_mean_clipped": sum(sorted(min(1.0, edit.rate) for edit in edits)) / len(edits),
    }


def find_best_rate(answers: Sequence[Answered]) -> float:
    """Corpus WER where each answer is compared with the nearest of its references."""
    nearest = [
        min((count_edits(reference, answer) for reference in references), key=_nearness)
        for references, answer in pair_with_all(answers)
    ]
    return sum(edit.total for edit in nearest) / sum(edit.reference_words for edit in nearest)


def _nearness(edits: Edits) -> tuple[float, int]:
    return edits.rate, -edits.reference_words


def _bound(edits: Sequence[Edits], source: str) -> list[Reading]:
    """The interval is over samples, because samples and not words were drawn."""
    interval = bound_ratio([edit.total for edit in edits], [edit.reference_words for edit in edits])
    if interval is None:
        reason = (
            f"fewer than {LEAST_SAMPLES} samples, or samples that do not differ: too few to know"
            " how far the rate may be off"
        )
        return [unavailable(name, reason) for name in BOUNDS]
    method = f"95% interval of a ratio over samples, corrected for skewness; {source}"
    ends = zip(BOUNDS, (max(0.0, interval.low), interval.high), strict=True)
    return [reading(name, value=end, status=DERIVED, source=method) for name, end in ends]
