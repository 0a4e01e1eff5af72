"""Character error rate over the whole set of samples, spaces included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import jiwer

from profiling.quality.normalizing import (
    NO_REFERENCE,
    NORMALIZER,
    pair_with_reference,
)
from profiling.quality.registry import Answered, Judging, always, metric
from profiling.records import MEASURED, Reading, reading, unavailable


@metric("cer", applies=always)
def score_cer(answers: Sequence[Answered], judging: Judging) -> Iterable[Reading]:
    pairs = pair_with_reference(answers, judging.headline)
    if not pairs:
        return [unavailable("cer", NO_REFERENCE)]
    references, hypotheses = zip(*pairs, strict=True)
    rate = float(jiwer.cer(list(references), list(hypotheses)))
    source = f"jiwer, {judging.headline} reference, normalizer {NORMALIZER}"
    return [reading("cer", value=rate, status=MEASURED, source=source)]
