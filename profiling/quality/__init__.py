"""Text quality from answers and references alone: one file a metric, found by listing them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from profiling.quality.normalizing import NORMALIZER
from profiling.quality.registry import METRICS, Answered, Judging, Metric, metric
from profiling.quality.wer import sample_wer
from profiling.records import Reading

__all__ = ["NORMALIZER", "Answered", "Metric", "find_metrics", "metric", "sample_wer", "score"]


def find_metrics() -> dict[str, Metric]:
    """Every metric of this folder by name; a new file is enough to add one."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return dict(sorted(METRICS.items()))


def score(answers: Sequence[Answered], *, headline: str, accuracy: str | None) -> list[Reading]:
    """The aggregate readings of every metric that fits the way the dataset is judged."""
    judging = Judging(headline=headline, accuracy=accuracy)
    readings: list[Reading] = []
    for found in find_metrics().values():
        if found.applies(judging):
            readings.extend(found.score(answers, judging))
    return readings
