"""Differences of scores: one method, by sample, and none claimed where there is none."""

from __future__ import annotations

import random

import pytest

from profiling.report.say.differences import compare_errors, count_tail


def scores(values: list[float]) -> dict[str, float]:
    return {f"sample-{number}": value for number, value in enumerate(values)}


def test_errors_are_paired_by_sample() -> None:
    before = {"a": 0.0, "b": 0.5, "c": 1.0, "only": 9.0}
    found = compare_errors(before, {"a": 0.5, "b": 0.5, "c": 0.5, "other": 0.0})
    assert found is not None
    assert (found.samples, found.better, found.worse) == (3, 1, 1)
    assert found.change == pytest.approx(0.0)
    assert not found.is_different
    assert compare_errors({"a": 0.0}, {"a": 1.0}) is None


def test_no_interval_has_zero_width() -> None:
    for size in (8, 40):
        found = compare_errors(scores([1.0] * size), scores([1.5] * size))
        assert found is not None and found.bounds is None and not found.is_different
        assert found.reason
    unchanged = compare_errors(scores([0.5] * 40), scores([0.5] * 40))
    assert unchanged is not None and unchanged.is_unchanged and unchanged.bounds is None


def test_few_samples_have_no_interval() -> None:
    draw = random.Random(1)
    values = [draw.random() for _ in range(19)]
    found = compare_errors(scores(values), scores([value + draw.random() for value in values]))
    assert found is not None and found.bounds is None
    assert "19 samples are too few" in found.reason


def test_equal_runs_are_called_equal() -> None:
    draw, called = random.Random(2), 0
    for _ in range(400):
        before = [draw.choice([0.0, 0.0, 0.0, 1 / 3, 1.0]) for _ in range(120)]
        after = [draw.choice([0.0, 0.0, 0.0, 1 / 3, 1.0]) for _ in range(120)]
        found = compare_errors(scores(before), scores(after))
        assert found is not None
        called += found.is_different
    assert called <= 30


def test_a_loss_is_found() -> None:
    draw, called = random.Random(3), 0
    for _ in range(200):
        before = [draw.choice([0.0, 0.0, 1 / 3]) for _ in range(120)]
        after = [value + draw.choice([0.0, 0.0, 0.5]) for value in before]
        found = compare_errors(scores(before), scores(after))
        assert found is not None
        called += found.is_different and found.change > 0
    assert called >= 195


def test_tails_by_hand() -> None:
    assert count_tail(0, 0) == 1.0
    assert count_tail(6, 0) == pytest.approx(1 / 64)
    assert count_tail(3, 3) == pytest.approx((20 + 15 + 6 + 1) / 64)
