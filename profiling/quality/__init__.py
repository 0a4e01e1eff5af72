"""Quality of answers, from answers and references alone: one file per text metric."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from profiling import metrics
from profiling.quality.normalizing import NORMALIZER
from profiling.quality.registry import METRICS, Answered, Judging, TextMetric, metric
from profiling.quality.wer import sample_wer
from profiling.records import Reading, unavailable

__all__ = [
    "NORMALIZER",
    "Answered",
    "TextMetric",
    "find_applicable",
    "find_metrics",
    "metric",
    "sample_wer",
    "score",
    "score_nothing",
]


def find_metrics() -> dict[str, TextMetric]:
    """Every text metric of this folder by name; a new file is found by listing the folder."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return dict(sorted(METRICS.items()))


def find_applicable(*, headline: str, accuracy: str | None) -> dict[str, TextMetric]:
    """The text metrics that suit the way a data set is judged."""
    judging = Judging(headline=headline, accuracy=accuracy)
    return {name: found for name, found in find_metrics().items() if found.applies(judging)}


def score(answers: Sequence[Answered], *, headline: str, accuracy: str | None) -> list[Reading]:
    """The aggregate readings of every text metric that suits the data set."""
    judging = Judging(headline=headline, accuracy=accuracy)
    found = find_applicable(headline=headline, accuracy=accuracy)
    return [row for text_metric in found.values() for row in text_metric.score(answers, judging)]


def score_nothing(reason: str, *, headline: str, accuracy: str | None) -> list[Reading]:
    """The same rows as `score` gives, all without a value, for one reason."""
    found = find_applicable(headline=headline, accuracy=accuracy)
    names = {declared.name for name in found for declared in metrics.list_given(name)}
    return [unavailable(name, reason) for name in sorted(names)]
