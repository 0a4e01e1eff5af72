"""Agreement and speed-up: against the right run, by sample, and only where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from profiling.report import Run, read_runs
from profiling.report.read.sweeps import find_sweeps
from profiling.report.say.two_runs import say_conditions
from tests.report.synthetic import MACHINE, write_digests, write_run

ANSWERS = ["a", "b", "c", "d"]
OTHER = ["a", "b", "c", "other"]


def by_optimization(results: Path) -> dict[str, Run]:
    found = read_runs(results)
    assert found.problems == []
    return {run["optimization"]: run for run in found.runs}


def test_agreement_is_the_share_of_equal_answers(tmp_path: Path) -> None:
    write_run(tmp_path, samples=4, answers=ANSWERS, summary={"latency_s": 0.3})
    write_run(tmp_path, samples=4, optimization="bf16", answers=OTHER, summary={"latency_s": 0.1})
    runs = by_optimization(tmp_path)
    assert runs["bf16"]["agreement"] == 0.75
    assert runs["bf16"]["speedup"] == pytest.approx(3.0)
    assert runs["baseline"]["agreement"] == 1.0
    assert runs["baseline"]["speedup"] == 1.0


@pytest.mark.parametrize(
    "other",
    [
        {"img_size": 448},
        {"batch_size": 4},
        {"dataset": "coco"},
        {"weights": "random"},
        {"max_new_tokens": 5},
        {"model": "fuyu"},
        {"machine": {**MACHINE, "cpu_model": "Another CPU"}},
        {"status": "failed"},
    ],
)
def test_a_run_that_differs_in_more_is_no_baseline(tmp_path: Path, other: dict[str, Any]) -> None:
    write_run(tmp_path, **other)
    write_run(tmp_path, optimization="bf16")
    run = by_optimization(tmp_path)["bf16"]
    assert run["agreement"] is None
    assert run["speedup"] is None
    assert run.baseline is None


def test_what_an_optimization_calibrates_with_makes_no_other_setting(tmp_path: Path) -> None:
    write_digests(write_run(tmp_path))
    write_digests(write_run(tmp_path, optimization="awq"), calibration="0a")
    runs = by_optimization(tmp_path)
    assert runs["awq"].baseline == runs["baseline"].name
    assert runs["awq"]["speedup"] is not None and runs["awq"]["agreement"] is not None
    (sweep,) = find_sweeps(list(runs.values()), "optimization")
    assert len(sweep.runs) == 2
    assert "samples" not in say_conditions(runs["baseline"], runs["awq"])


def test_the_host_name_makes_no_other_machine(tmp_path: Path) -> None:
    write_run(tmp_path, machine={**MACHINE, "hostname": "node7"})
    write_run(tmp_path, optimization="bf16")
    assert by_optimization(tmp_path)["bf16"]["speedup"] is not None


def test_the_newest_baseline_counts(tmp_path: Path) -> None:
    write_run(tmp_path, summary={"latency_s": 0.2}, started_at="2026-01-01T00:00:00+00:00")
    newer = write_run(
        tmp_path,
        summary={"latency_s": 0.4},
        started_at="2026-01-02T00:00:00+00:00",
        suffix="-2",
    )
    write_run(tmp_path, optimization="bf16", summary={"latency_s": 0.1})
    run = by_optimization(tmp_path)["bf16"]
    assert run.baseline == newer.name
    assert run["speedup"] == pytest.approx(4.0)


def test_other_samples_have_no_agreement(tmp_path: Path) -> None:
    write_run(tmp_path, samples=4)
    write_run(tmp_path, samples=5, optimization="bf16")
    run = by_optimization(tmp_path)["bf16"]
    assert run["agreement"] is None
    assert run["speedup"] is not None
