"""Paired comparisons: beside which runs they stand, in which direction, and which one counts."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from profiling.report import Run, read_runs
from profiling.report.read.plain_runs import PAIRED, SEPARATE_RUNS
from profiling.report.read.runs import find_paired
from profiling.report.say.changes import find_change
from profiling.report.write.csv_json import to_csv, to_json
from profiling.report.write.html import to_html
from profiling.report.write.html_table import tabulate
from tests.report.synthetic import write_comparison, write_run

SPEEDUP = ("speedup", "speedup_ci_low", "speedup_ci_high", "speedup_source")


def by_optimization(results: Path) -> dict[str, Run]:
    found = read_runs(results)
    assert found.problems == []
    return {run["optimization"]: run for run in found.runs}


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """The baseline, and a variant that looks ten times as slow in its separate run."""
    return write_run(tmp_path), write_run(tmp_path, optimization="bf16", slower=10.0)


@pytest.mark.parametrize("is_baseline_first", [True, False])
def test_a_speed_up_is_the_baselines_time_over_this_one(
    tmp_path: Path, sides: tuple[Path, Path], is_baseline_first: bool
) -> None:
    if is_baseline_first:
        write_comparison(*sides, ratio=1.6, reach=1.1, ci_low=1.5)
    else:
        write_comparison(*sides[::-1], ratio=1 / 1.6, ci_low=1 / 1.76, ci_high=1 / 1.5)
    run = by_optimization(tmp_path)["bf16"]
    assert [run[name] for name in SPEEDUP] == [
        *(pytest.approx(value) for value in (1.6, 1.5, 1.76)),
        PAIRED,
    ]


def test_separate_runs_have_no_interval(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    run = by_optimization(tmp_path)["bf16"]
    assert run["speedup"] == pytest.approx(0.13, rel=0.1)
    assert [run[name] for name in SPEEDUP[1:]] == [None, None, SEPARATE_RUNS]


def test_two_launches_have_no_interval_either(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    write_comparison(*sides, ratio=1.6, reach=None, launches=2)
    run = by_optimization(tmp_path)["bf16"]
    assert [run[name] for name in SPEEDUP] == [1.6, None, None, PAIRED]


def test_every_file_has_them(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    write_comparison(*sides, ratio=1.6, reach=1.1)
    found = read_runs(tmp_path)
    rows = {row["optimization"]: row for row in csv.DictReader(io.StringIO(to_csv(found.runs)))}
    assert float(rows["bf16"]["speedup_ci_low"]) == pytest.approx(1.6 / 1.1)
    assert rows["bf16"]["speedup_source"] == PAIRED
    told = {row["optimization"]: row for row in json.loads(to_json(found.runs))}
    assert told["bf16"]["speedup_ci_high"] == pytest.approx(1.6 * 1.1)
    columns = {one["name"]: one["cells"] for one in tabulate(found.runs)["columns"]}
    assert "1.60× [1.45×, 1.76×]" in columns["speedup"]
    assert PAIRED in columns["speedup_source"]
    assert all(cell in to_html(found) for cell in ("1.60", PAIRED))


def test_the_folder_of_comparisons_is_no_torn_run(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    write_comparison(*sides, ratio=1.6)
    found = read_runs(tmp_path)
    assert found.problems == [] and len(found.runs) == 2


@pytest.mark.parametrize(
    "changes", [{"ratio": "fast"}, {"ratio": -1}, {"phases": None}, {"a": 3}, {"noisy": None}]
)
def test_a_broken_comparison_is_named_and_nothing_else_is_lost(
    tmp_path: Path, sides: tuple[Path, Path], changes: dict[str, Any]
) -> None:
    folder = write_comparison(*sides, ratio=1.6)
    path = folder / "comparison.json"
    written = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(written), encoding="utf-8")
    found = read_runs(tmp_path)
    assert len(found.runs) == 2 and len(found.problems) == 1
    assert str(folder) in found.problems[0]
    assert {run["speedup_source"] for run in found.runs} == {SEPARATE_RUNS}


def test_an_interval_that_does_not_hold_its_value_is_none(
    tmp_path: Path, sides: tuple[Path, Path]
) -> None:
    write_comparison(*sides, ratio=1.6, ci_low=1.7, ci_high=1.8)
    run = by_optimization(tmp_path)["bf16"]
    assert [run[name] for name in SPEEDUP] == [1.6, None, None, PAIRED]


def test_more_launches_count_more_and_noise_less(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    write_comparison(*sides, ratio=1.1, launches=9, noisy=True, name="noisy")
    write_comparison(*sides, ratio=1.2, launches=7, name="long")
    write_comparison(*sides, ratio=1.3, launches=5, name="short")
    assert by_optimization(tmp_path)["bf16"]["speedup"] == 1.2


def test_what_was_paired_in_one_round_holds_for_the_others(tmp_path: Path) -> None:
    for number in (1, 2):
        pair = [
            write_run(tmp_path, optimization=name, round=number) for name in ("baseline", "bf16")
        ]
        if number == 1:
            write_comparison(*pair, ratio=1.4)
    speeds = [run["speedup"] for run in read_runs(tmp_path).runs if run["optimization"] == "bf16"]
    assert speeds == [1.4, 1.4]


def test_phases_have_their_own_ratio(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    write_comparison(*sides, ratio=1.6, phases={"vision": 3.0})
    runs = by_optimization(tmp_path)
    plain, fast = [runs["baseline"]], [runs["bf16"]]
    vision, prefill = (find_change(name, plain, fast) for name in ("vision_s", "prefill_s"))
    assert vision is not None and prefill is not None
    assert (vision.source, vision.ratio) == (PAIRED, pytest.approx(1 / 3))
    assert (prefill.source, prefill.bounds) == (SEPARATE_RUNS, None)


def test_runs_of_two_folders_find_the_comparison_in_either(tmp_path: Path) -> None:
    first = write_run(tmp_path / "one")
    second = write_run(tmp_path / "two", optimization="bf16")
    write_comparison(second, first, ratio=0.5)
    runs = [read_runs(tmp_path / name).runs[0] for name in ("one", "two")]
    paired = [find_paired(*runs), find_paired(*runs[::-1])]
    assert [one.whole.value for one in paired if one] == [2.0, 0.5]


def test_a_baseline_that_left_no_record_counts(tmp_path: Path) -> None:
    base = write_run(tmp_path / "elsewhere")
    mine = write_run(tmp_path / "here", optimization="bf16")
    configs = {
        side: json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"]
        for side, folder in (("a", mine), ("b", base))
    }
    configs["b"] |= {"engine": {"name": "torch"}}
    write_comparison(mine, base, ratio=0.5, configs=configs)
    run = by_optimization(tmp_path / "here")["bf16"]
    assert (run["speedup"], run["speedup_source"], run["agreement"]) == (2.0, PAIRED, None)
    configs["b"] |= {"img_size": 448}
    write_comparison(mine, base, ratio=0.5, configs=configs, name="other", launches=9)
    assert by_optimization(tmp_path / "here")["bf16"]["speedup"] is None


def test_the_comparison_of_a_point_with_itself_is_no_speed_up(tmp_path: Path) -> None:
    base = write_run(tmp_path)
    again = write_run(tmp_path, suffix="-2", started_at="2026-05-01T00:00:00+00:00")
    write_comparison(base, again, ratio=1.5)
    assert {run["speedup_source"] for run in read_runs(tmp_path).runs} == {SEPARATE_RUNS}


def test_an_interval_carries_the_confidence_that_it_reaches(tmp_path: Path) -> None:
    folder = write_run(tmp_path, repeats=12)
    path = folder / "readings.csv"
    source = '"order statistics of 12 repeats, confidence 86.3% for this process; clock"'
    ends = f"total,latency_ci_low_s,0.05,s,measured,{source},,\n"
    path.write_text(path.read_text(encoding="utf-8") + ends, encoding="utf-8")
    (run,) = read_runs(tmp_path).runs
    bounds = run.interval("latency_s")
    assert bounds is not None and bounds.confidence == pytest.approx(0.863)
    assert run["latency_ci_confidence"] == pytest.approx(0.863)


def test_five_repeats_have_no_interval(tmp_path: Path) -> None:
    write_run(tmp_path, repeats=5)
    (run,) = read_runs(tmp_path).runs
    assert run["latency_ci_low_s"] is not None and run.interval("latency_s") is None


@pytest.mark.parametrize(
    ("launches", "said"),
    [
        (1, "1 launch, too few for an interval"),
        (2, "2 launches, too few for an interval"),
        (5, "5 launches that gave no interval, as they do where all have the same ratio"),
    ],
)
def test_an_interval_of_no_width_is_none_and_the_reason_is_told(
    launches: int, said: str, tmp_path: Path, sides: tuple[Path, Path]
) -> None:
    write_comparison(*sides, ratio=1.6, reach=1.0, launches=launches)
    runs = {run.name: run for run in read_runs(tmp_path).runs}
    found = find_paired(*(runs[side.name] for side in sides))
    assert found is not None
    assert (found.whole.low, found.whole.high) == (None, None)
    assert found.why_unbounded == said
    assert found.more_launches == max(5, launches + 1)
