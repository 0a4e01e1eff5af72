"""What a text metric is given, and how its file registers it and declares its metrics."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from profiling import metrics
from profiling.metrics import ANSWERS, NEITHER, Entry
from profiling.records import Reading

FIRST, MAJORITY = HEADLINES = ("first", "majority")
VQA, OPTION = ACCURACIES = ("vqa", "option")


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The answer to one sample, new tokens only, and the sample's references.

    `reference_nll` is the negative log-likelihood of the reference in nats per token, where known.
    """

    id: str
    answer: str
    references: tuple[str, ...]
    reference_nll: float | None = None


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How a data set is judged: which reference WER uses, and which accuracy there is, if any."""

    headline: str
    accuracy: str | None

    def __post_init__(self) -> None:
        if self.headline not in HEADLINES:
            raise ValueError(f"headline={self.headline!r}: one of {', '.join(HEADLINES)}")
        if self.accuracy is not None and self.accuracy not in ACCURACIES:
            raise ValueError(f"accuracy={self.accuracy!r}: null or one of {', '.join(ACCURACIES)}")


Score = Callable[[Sequence[Answered], Judging], Iterable[Reading]]


@dataclass(frozen=True, kw_only=True)
class TextMetric:
    """A registered text metric: for which data sets, and the function that gives its readings."""

    name: str
    applies: Callable[[Judging], bool]
    score: Score


METRICS: dict[str, TextMetric] = {}


def metric(
    name: str, *, applies: Callable[[Judging], bool], declares: Collection[Entry] = ()
) -> Callable[[Score], Score]:
    """Register a function as the text metric `name`, for the data sets that it applies to.

    `declares` are the metrics that it gives and `profiling/metrics/` does not have. Without any, a
    number of the text metric's own name is declared, with the function's docstring as definition.
    """

    def register(score: Score) -> Score:
        if name in METRICS:
            raise ValueError(f"two text metrics are called {name}")
        if declares:
            metrics.declare(name, declares)
        elif not metrics.list_given(name):
            metrics.declare(name, [_declare_plainly(name, score)])
        METRICS[name] = TextMetric(name=name, applies=applies, score=score)
        return score

    return register


def _declare_plainly(name: str, score: Score) -> Entry:
    declared = metrics.quality(
        name=name,
        title=name.replace("_", " "),
        better=NEITHER,
        given_by=(name,),
        tables=frozenset({ANSWERS}),
    )
    definition, _, _ = (inspect.getdoc(score) or f"see `{score.__module__}`").partition("\n")
    stated = dict.fromkeys(("method", "uncertainty", "limits"), "not stated")
    return Entry(metrics=(declared,), definition=definition, **stated)


def always(_: Judging) -> bool:
    return True


def captions(judging: Judging) -> bool:
    """Free text is compared as a caption; short and multiple-choice answers have an accuracy."""
    return judging.accuracy is None
