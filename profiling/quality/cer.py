"""Character error rate over the whole set of samples, spaces counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import jiwer

from profiling.quality.normalizing import (
    NO_REFERENCE,
    NORMALIZER,
    pair_with_reference,
    read_off,
)
from profiling.quality.registry import Answered, Judging, always, metric
from profiling.records import Reading


@metric("cer", applies=always)
def score_cer(answers: Sequence[Answered], judging: Judging) -> Iterable[Reading]:
    pairs = pair_with_reference(answers, judging.headline)
    if not pairs:
        return [read_off("cer", None, NO_REFERENCE)]
    references, hypotheses = zip(*pairs, strict=True)
    rate = float(jiwer.cer(list(references), list(hypotheses)))
    source = f"jiwer, {judging.headline} reference, normalizer {NORMALIZER}"
    return [read_off("cer", rate, source)]
