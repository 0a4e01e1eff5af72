"""What a text metric is given and how it makes itself known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from profiling.records import Reading

FIRST, MAJORITY = HEADLINES = ("first", "majority")
VQA, OPTION = ACCURACIES = ("vqa", "option")
PHASE = "run"


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What the model said to one sample (its new tokens only) and what people said.

    `reference_nll` is what a token of the reference costs the model, in nats, where that is known.
    """

    id: str
    answer: str
    references: tuple[str, ...]
    reference_nll: float | None = None


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How a dataset is judged: which reference counts for WER, and which accuracy, if any."""

    headline: str
    accuracy: str | None

    def __post_init__(self) -> None:
        if self.headline not in HEADLINES:
            raise ValueError(f"headline={self.headline!r}: one of {', '.join(HEADLINES)}")
        if self.accuracy is not None and self.accuracy not in ACCURACIES:
            raise ValueError(f"accuracy={self.accuracy!r}: null or one of {', '.join(ACCURACIES)}")


Score = Callable[[Sequence[Answered], Judging], Iterable[Reading]]


@dataclass(frozen=True, kw_only=True)
class Metric:
    name: str
    applies: Callable[[Judging], bool]
    score: Score


METRICS: dict[str, Metric] = {}


def metric(name: str, *, applies: Callable[[Judging], bool]) -> Callable[[Score], Score]:
    """Register a metric under a name, for the datasets whose way of judging it fits."""

    def register(score: Score) -> Score:
        if name in METRICS:
            raise ValueError(f"two metrics are called {name}")
        METRICS[name] = Metric(name=name, applies=applies, score=score)
        return score

    return register


def always(_: Judging) -> bool:
    return True


def captions(judging: Judging) -> bool:
    """Free text is compared as a caption; short and multiple-choice answers have an accuracy."""
    return judging.accuracy is None
