"""Ranks and autocorrelation of successive values."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given

from profiling.statistics.autocorrelation import estimate_autocorrelation, rank_values
from tests.statistics.series import FEW_TIMES, make_series


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_autocorrelation_is_estimated_without_much_bias(correlation: float) -> None:
    estimates = [estimate_autocorrelation(row) for row in make_series(2000, 20, correlation, 0.05)]
    assert numpy.mean(estimates) == pytest.approx(correlation, abs=0.06)


@given(FEW_TIMES)
def test_ranks_add_up_whatever_the_ties(values: list[float]) -> None:
    assert sum(rank_values(values)) == pytest.approx(len(values) * (len(values) + 1) / 2)


def test_equal_values_share_their_rank() -> None:
    assert rank_values([3.0, 1.0, 3.0, 2.0]) == [3.5, 1.0, 3.5, 2.0]
