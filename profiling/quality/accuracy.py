"""How scores between 0 and 1, one a sample, become an accuracy with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

from profiling.quality.normalizing import read_off
from profiling.records import DERIVED, Reading
from profiling.statistics.means import bound_share

COLUMNS = ("accuracy", "accuracy_ci_low", "accuracy_ci_high")


def read_accuracy(scores: Sequence[float], name: str, normalizer: str) -> list[Reading]:
    """The source of the accuracy is its bare name: it fills the column accuracy_name."""
    if not scores:
        return [read_off(column, None, f"{name}: no sample can be judged") for column in COLUMNS]
    total = fsum(scores)
    interval = bound_share(total, len(scores))
    method = f"95% Wilson interval over samples; {name}, {normalizer}"
    return [
        read_off("accuracy", total / len(scores), name),
        read_off("accuracy_ci_low", interval.low, method, status=DERIVED),
        read_off("accuracy_ci_high", interval.high, method, status=DERIVED),
    ]
