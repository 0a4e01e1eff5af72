"""Negative log-likelihood of the references: a finer measure of quality than any error rate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from profiling.quality.registry import Answered, Judging, always, metric
from profiling.records import DERIVED, MEASURED, Reading, reading, unavailable
from profiling.statistics.skewed_means import LEAST_SAMPLES, bound_mean

BOUNDS = ("reference_nll_ci_low", "reference_nll_ci_high")


@metric("reference_nll", applies=always)
def score_reference_nll(answers: Sequence[Answered], judging: Judging) -> Iterable[Reading]:
    values = [a.reference_nll for a in answers if a.reference_nll is not None]
    if not values:
        reason = "no reference's likelihood is known"
        return [unavailable(name, reason) for name in ("reference_nll", *BOUNDS)]
    source = f"log-softmax of the model's logits, {judging.headline} reference, nats per token"
    source += f", mean over {len(values)} of {len(answers)} samples"
    mean = sum(values) / len(values)
    row = reading("reference_nll", value=mean, status=MEASURED, source=source)
    return [row, *_bound(values)]


def _bound(values: Sequence[float]) -> Iterable[Reading]:
    interval = bound_mean(values)
    if interval is None:
        reason = f"fewer than {LEAST_SAMPLES} samples, or samples that do not differ: too few to"
        return [unavailable(name, f"{reason} know how far the mean may be off") for name in BOUNDS]
    method = "95% interval of the mean over samples, Student's t corrected for skewness"
    bounds = zip(BOUNDS, (interval.low, interval.high), strict=True)
    return [reading(name, value=end, status=DERIVED, source=method) for name, end in bounds]
