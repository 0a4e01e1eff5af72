"""How many references say nothing once normalized, and how many samples that leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from profiling.quality.normalizing import (
    NORMALIZER,
    choose_reference,
    normalize,
    read_off,
)
from profiling.quality.registry import Answered, Judging, always, metric
from profiling.records import Reading


@metric("empty_references", applies=always)
def count_empty(answers: Sequence[Answered], judging: Judging) -> Iterable[Reading]:
    written = [reference for answered in answers for reference in answered.references]
    empty = sum(not normalize(reference) for reference in written)
    left_out = sum(choose_reference(a.references, judging.headline) is None for a in answers)
    source = f"counted, {judging.headline} reference, normalizer {NORMALIZER}"
    return [
        read_off("empty_references", empty, source),
        read_off("wer_left_out_samples", left_out, source),
    ]
