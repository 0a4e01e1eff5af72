"""How unlikely the reference is to the model: finer than any error rate of what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from profiling.quality.normalizing import read_off
from profiling.quality.registry import Answered, Judging, always, metric
from profiling.records import DERIVED, Reading
from profiling.statistics.means import estimate_mean

BOUNDS = ("reference_nll_ci_low", "reference_nll_ci_high")


@metric("reference_nll", applies=always)
def score_reference_nll(answers: Sequence[Answered], judging: Judging) -> Iterable[Reading]:
    values = [a.reference_nll for a in answers if a.reference_nll is not None]
    if not values:
        reason = "no reference's likelihood is known"
        return [read_off(name, None, reason) for name in ("reference_nll", *BOUNDS)]
    source = f"log-softmax of the model's logits, {judging.headline} reference, nats a token"
    source += f", mean over {len(values)} of {len(answers)} samples"
    return [read_off("reference_nll", sum(values) / len(values), source), *_bound(values)]


def _bound(values: Sequence[float]) -> Iterable[Reading]:
    if len(values) < 2:
        reason = "the samples are fewer than two: their spread is unknown"
        return [read_off(name, None, reason) for name in BOUNDS]
    interval = estimate_mean(values).interval
    method = "95% interval of the mean over samples, Student's t"
    bounds = zip(BOUNDS, (interval.low, interval.high), strict=True)
    return [read_off(name, bound, method, status=DERIVED) for name, bound in bounds]
