"""Marks of speed-ups, and where runs were made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profiling.report import Run, read_runs
from profiling.report.read.sweeps import find_sweeps
from profiling.report.say.marks import NOISY, explain
from profiling.report.say.sentences import say_optimizations, say_origin
from tests.report.synthetic import MACHINE, write_comparison, write_run


@pytest.mark.parametrize("ratio", [1.5, 1.0, 0.7])
@pytest.mark.parametrize("noisy", [False, True])
def test_a_speed_up_has_the_mark_of_its_comparison(
    ratio: float, noisy: bool, tmp_path: Path
) -> None:
    base = write_run(tmp_path, noisy=not noisy)
    other = write_run(tmp_path, optimization="bf16", noisy=not noisy)
    write_comparison(base, other, ratio=ratio, noisy=noisy)
    runs = read_runs(tmp_path).runs
    (sweep,) = find_sweeps(runs, "optimization")
    said = say_optimizations(sweep)
    assert "bf16" in said
    assert (NOISY in said) is noisy
    assert any(line.startswith(NOISY) for line in explain(runs, estimates=False))


def origin_of(folder: Path, **changes: object) -> list[str]:
    path = write_run(folder) / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(run | changes), encoding="utf-8")
    return say_origin(runs_of(folder))


def runs_of(folder: Path) -> list[Run]:
    return read_runs(folder).runs


def test_what_a_record_does_not_say_is_left_out(tmp_path: Path) -> None:
    said = " ".join(origin_of(tmp_path, versions={"torch": "2.13.0"}, machine={"gpus": []}))
    assert said.startswith("On unknown processor. torch 2.13.0.")
    assert "None" not in said and "transformers" not in said


def test_every_machine_is_named(tmp_path: Path) -> None:
    for number in range(20):
        machine = {**MACHINE, "cpu_model": f"Processor with a long name, number {number}"}
        write_run(tmp_path, machine=machine)
    (where, *_) = say_origin(runs_of(tmp_path))
    assert where.count("Processor") == 20 and "characters)" not in where
