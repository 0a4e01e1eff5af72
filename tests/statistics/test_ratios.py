"""Two sets of repeats compared."""

from __future__ import annotations

from profiling.statistics.ratios import compare_pairs
from tests.statistics.series import ZIGZAG


def test_pairs_cancel_a_drift() -> None:
    drift = [1.0 + 0.05 * step for step in range(20)]
    baseline = [2.0 * m * (1 + z / 1000) for m, z in zip(drift, ZIGZAG * 2, strict=True)]
    ratio = compare_pairs(baseline, drift)
    assert ratio.confidence is not None and ratio.confidence >= 0.95
    assert ratio.low is not None and ratio.high is not None
    assert 2.0 < ratio.low <= ratio.value <= ratio.high < 2.03
