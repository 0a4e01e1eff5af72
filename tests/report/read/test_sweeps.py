"""Sweeps: runs that differ by one key alone, repetitions and rounds counted once."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiling.report import read_runs
from profiling.report.read.sweeps import (
    find_rounds,
    find_sweeps,
    list_unfinished,
    newest,
    pick_reference,
    pool_rounds,
    tokens_of,
)
from profiling.report.write.pages import pick_comparison
from tests.report.synthetic import write_digests, write_run


def test_a_sweep_differs_by_its_key_alone(tmp_path: Path) -> None:
    for img_size in (448, 112, 224):
        write_run(tmp_path, img_size=img_size)
        write_run(tmp_path, img_size=img_size, batch_size=4)
    write_run(tmp_path, img_size=336, dataset="coco")
    runs = read_runs(tmp_path).runs
    sweeps = find_sweeps(runs, "img_size")
    assert [sweep.values for sweep in sweeps] == [[112, 224, 448]] * 2
    assert [sweep.runs[0]["batch_size"] for sweep in sweeps] == [1, 4]
    assert [sweep.values for sweep in find_sweeps(runs, "batch_size")] == [[1, 4]] * 3
    assert find_sweeps(runs, "optimization") == []


def test_what_did_not_complete_is_in_no_sweep(tmp_path: Path) -> None:
    write_run(tmp_path, img_size=112)
    write_run(tmp_path, img_size=224, status="failed")
    assert find_sweeps(read_runs(tmp_path).runs, "img_size") == []


def test_the_newest_repetition_and_round_counts(tmp_path: Path) -> None:
    old = "2026-01-01T00:00:00+00:00"
    write_run(tmp_path, started_at=old)
    again = write_run(tmp_path, suffix="-2")
    write_run(tmp_path, img_size=448, started_at=old)
    other = write_run(tmp_path, img_size=448, round=2)
    runs = read_runs(tmp_path).runs
    (sweep,) = find_sweeps(runs, "img_size")
    assert [run.name for run in sweep.runs] == [again.name, other.name]
    assert {run.name for run in newest(runs)} == {again.name, other.name}
    assert len(find_rounds(sweep.runs[1], runs)) == 2


def test_a_later_failure_does_not_hide_what_was_measured(tmp_path: Path) -> None:
    done = [write_run(tmp_path, round=n, started_at=f"2026-01-0{n}") for n in (1, 2, 3)]
    lost = write_run(tmp_path, round=4, started_at="2026-01-04", status="failed")
    again = write_run(tmp_path, img_size=448, started_at="2026-01-05", status="failed")
    write_run(tmp_path, img_size=112, started_at="2026-01-06", status="failed", suffix="-0")
    write_run(tmp_path, img_size=112, started_at="2026-01-07")
    runs = read_runs(tmp_path).runs
    assert {run.name for run in list_unfinished(runs)} == {lost.name, again.name}
    pooled = {run.name: run for run in pool_rounds(runs)}
    assert len(pooled) == 4 and {lost.name, again.name} < set(pooled)
    assert len(pooled[done[2].name].rounds) == 3
    assert done[2].name in {run.name for run in newest(runs)}


def test_tokens_stand_behind_sizes(tmp_path: Path) -> None:
    for img_size in (112, 224):
        write_run(tmp_path, img_size=img_size)
        write_run(tmp_path, img_size=img_size, model="fuyu", summary={"num_visual_tokens": 32.0})
    runs = read_runs(tmp_path).runs
    by_model = {sweep.runs[0]["model"]: sweep for sweep in find_sweeps(runs, "img_size")}
    assert tokens_of(by_model["llava"]) == ("tokens", [64.0, 256.0])
    assert tokens_of(by_model["fuyu"]) == ("pixels", [112.0**2, 224.0**2])


def test_the_reference_is_the_plain_run(tmp_path: Path) -> None:
    write_run(tmp_path, optimization="bf16")
    write_run(tmp_path, batch_size=16)
    write_run(tmp_path, weights="pretrained", batch_size=4)
    plain = write_run(tmp_path, weights="pretrained")
    assert pick_reference(read_runs(tmp_path).runs).name == plain.name


def test_models_are_compared_at_the_setting_they_share(tmp_path: Path) -> None:
    for model in ("llava", "fuyu", "qwen25vl"):
        write_run(tmp_path, model=model, optimization="bf16")
    write_run(tmp_path, model="llava")
    write_run(tmp_path, model="fuyu")
    compared = pick_comparison(read_runs(tmp_path).runs)
    assert [run["model"] for run in compared] == ["fuyu", "llava", "qwen25vl"]
    assert {run["optimization"] for run in compared} == {"bf16"}


def test_models_may_have_sizes_of_their_own(tmp_path: Path) -> None:
    for model, img_size in (("llava", 336), ("fuyu", 240), ("qwen25vl", 224)):
        write_run(tmp_path, model=model, img_size=img_size)
    assert len(pick_comparison(read_runs(tmp_path).runs)) == 3


def test_models_of_several_sizes_are_compared_at_a_common_one(tmp_path: Path) -> None:
    for model, sizes in (("llava", (56, 112, 336)), ("fuyu", (120, 300)), ("qwen25vl", (112, 224))):
        for size in sizes:
            write_run(tmp_path, model=model, img_size=size)
    compared = pick_comparison(read_runs(tmp_path).runs)
    assert [run["img_size"] for run in compared] == [120, 112, 112]


def test_models_are_compared_at_the_setting_with_most_samples(tmp_path: Path) -> None:
    for model, small, large in (("llava", 56, 112), ("fuyu", 60, 240)):
        write_run(tmp_path, model=model, img_size=small, num_samples=8, samples=8)
        write_run(tmp_path, model=model, img_size=large, num_samples=40, samples=40)
    compared = pick_comparison(read_runs(tmp_path).runs)
    assert [run["img_size"] for run in compared] == [240, 112]


def test_models_are_compared_although_their_weights_differ(tmp_path: Path) -> None:
    for number, model in enumerate(("llava", "fuyu", "qwen25vl")):
        size = 240 if model == "fuyu" else 112
        write_digests(write_run(tmp_path, model=model, img_size=size), weights=f"0{number}")
    write_digests(write_run(tmp_path, model="blip2_t5", img_size=112), samples="06")
    compared = pick_comparison(read_runs(tmp_path).runs)
    assert [run["model"] for run in compared] == ["fuyu", "llava", "qwen25vl"]


@pytest.mark.parametrize("key", ["num_pictures", "num_frames"])
def test_samples_of_other_sizes_are_a_sweep(tmp_path: Path, key: str) -> None:
    for count in (1, 2, 4):
        write_digests(write_run(tmp_path, **{key: count}), samples=f"0{count}")
    runs = read_runs(tmp_path).runs
    (sweep,) = find_sweeps(runs, key)
    assert sweep.values == [1, 2, 4]
    assert find_sweeps(runs, "img_size") == []
