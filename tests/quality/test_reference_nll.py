"""The negative log-likelihood of references: a mean over samples with its interval."""

from __future__ import annotations

import pytest

from profiling.quality import Answered, score
from profiling.records import Reading
from profiling.statistics.student import student_quantile


def read(*nlls: float | None) -> dict[str, Reading]:
    answers = [
        Answered(id=str(number), answer="a", references=("a",), reference_nll=nll)
        for number, nll in enumerate(nlls)
    ]
    readings = score(answers, headline="first", accuracy=None)
    return {r.metric: r for r in readings if r.metric.startswith("reference_nll")}


def test_known_mean_and_interval() -> None:
    # Symmetric values leave nothing to correct: Student's t.
    values = [1.0, 2.0, 3.0] * 10
    found = read(*values, None)
    assert found["reference_nll"].value == pytest.approx(2.0)
    reach = student_quantile(0.975, 29) * (20 / 29) ** 0.5 / 30**0.5
    assert found["reference_nll_ci_low"].value == pytest.approx(2 - reach)
    assert found["reference_nll_ci_high"].value == pytest.approx(2 + reach)
    assert "30 of 31 samples" in found["reference_nll"].source


@pytest.mark.parametrize("count", [1, 8])
def test_few_samples_have_no_interval(count: int) -> None:
    found = read(*(1.5 + number for number in range(count)))
    assert found["reference_nll"].value is not None
    assert found["reference_nll_ci_low"].value is None
    assert "fewer than 20 samples" in found["reference_nll_ci_low"].source


def test_without_any_the_reason_is_given() -> None:
    for reading in read(None).values():
        assert reading.value is None
        assert "likelihood" in reading.source
