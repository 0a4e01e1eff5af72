"""BLEU-4 of captions over the whole set, unsmoothed, against all references."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any

from profiling.quality.normalizing import (
    NO_REFERENCE,
    NORMALIZER,
    NOT_COMPARABLE,
    pair_with_all,
    read_off,
)
from profiling.quality.registry import Answered, Judging, captions, metric
from profiling.records import Reading


@metric("bleu4", applies=captions)
def score_bleu(answers: Sequence[Answered], _: Judging) -> Iterable[Reading]:
    pairs = pair_with_all(answers)
    if not pairs:
        return [read_off("bleu4", None, NO_REFERENCE)]
    if find_spec("sacrebleu") is None:
        return [read_off("bleu4", None, "the package sacrebleu is not installed")]
    # Imported late: it costs 0.1 s that only caption datasets need to pay.
    from sacrebleu.metrics.bleu import BLEU

    most = max(len(references) for references, _ in pairs)
    # None, not an empty string, stands for a reference that a sample does not have: an empty
    # one would count as the nearest in length to a short answer.
    streams: list[list[Any]] = [
        [refs[at] if at < len(refs) else None for refs, _ in pairs] for at in range(most)
    ]
    bleu = BLEU(tokenize="none", smooth_method="none", force=True)
    value = bleu.corpus_score([answer for _, answer in pairs], streams).score / 100
    source = f"sacrebleu {bleu.get_signature()}, normalizer {NORMALIZER}; {NOT_COMPARABLE}"
    return [read_off("bleu4", value, source)]
