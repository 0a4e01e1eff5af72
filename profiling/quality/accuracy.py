"""An accuracy with its interval, from scores between 0 and 1, one per sample."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

from profiling.records import DERIVED, MEASURED, Reading, reading, unavailable
from profiling.statistics.means import bound_share

COLUMNS = ("accuracy", "accuracy_ci_low", "accuracy_ci_high")


def read_accuracy(scores: Sequence[float], name: str, normalizer: str) -> list[Reading]:
    """The source of `accuracy` is the bare name, which fills the column `accuracy_name`."""
    if not scores:
        return [unavailable(column, f"{name}: no sample can be judged") for column in COLUMNS]
    total = fsum(scores)
    interval = bound_share(total, len(scores))
    method = f"95% Wilson interval over samples; {name}, {normalizer}"
    return [
        reading("accuracy", value=total / len(scores), status=MEASURED, source=name),
        reading("accuracy_ci_low", value=interval.low, status=DERIVED, source=method),
        reading("accuracy_ci_high", value=interval.high, status=DERIVED, source=method),
    ]
