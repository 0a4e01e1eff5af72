"""BLEU-4 of captions: over the whole set, without smoothing, against all references."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any

from profiling.quality.normalizing import (
    NO_REFERENCE,
    NORMALIZER,
    NOT_COMPARABLE,
    pair_with_all,
)
from profiling.quality.registry import Answered, Judging, captions, metric
from profiling.records import MEASURED, Reading, reading, unavailable


@metric("bleu4", applies=captions)
def score_bleu(answers: Sequence[Answered], _: Judging) -> Iterable[Reading]:
    pairs = pair_with_all(answers)
    if not pairs:
        return [unavailable("bleu4", NO_REFERENCE)]
    if find_spec("sacrebleu") is None:
        return [unavailable("bleu4", "the package sacrebleu is not installed")]
    # Imported here: it takes 0.1 s, which only caption data sets need.
    from sacrebleu.metrics.bleu import BLEU

    most = max(len(references) for references, _ in pairs)
    # A missing reference is None and not an empty string, which would count as the reference
    # nearest in length to a short answer.
    streams: list[list[Any]] = [
        [refs[at] if at < len(refs) else None for refs, _ in pairs] for at in range(most)
    ]
    bleu = BLEU(tokenize="none", smooth_method="none", force=True)
    value = bleu.corpus_score([answer for _, answer in pairs], streams).score / 100
    source = f"sacrebleu {bleu.get_signature()}, normalizer {NORMALIZER}; {NOT_COMPARABLE}"
    return [reading("bleu4", value=value, status=MEASURED, source=source)]
