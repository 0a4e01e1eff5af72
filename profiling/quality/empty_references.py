"""References that are empty after normalization, and the samples that are left out for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from profiling.quality.normalizing import (
    NORMALIZER,
    choose_reference,
    normalize,
)
from profiling.quality.registry import Answered, Judging, always, metric
from profiling.records import MEASURED, Reading, reading


@metric("empty_references", applies=always)
def count_empty(answers: Sequence[Answered], judging: Judging) -> Iterable[Reading]:
    written = [reference for answered in answers for reference in answered.references]
    empty = sum(not normalize(reference) for reference in written)
    left_out = sum(choose_reference(a.references, judging.headline) is None for a in answers)
    source = f"counted, {judging.headline} reference, normalizer {NORMALIZER}"
    return [
        reading("empty_references", value=empty, status=MEASURED, source=source),
        reading("wer_left_out_samples", value=left_out, status=MEASURED, source=source),
    ]
