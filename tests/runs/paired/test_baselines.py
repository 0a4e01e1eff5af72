"""Sweeps with `paired=true`: which points are compared with what, and how that ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiling.records import read, read_comparisons
from profiling.runs.paired.baselines import find_baseline, list_comparisons, oppose
from profiling.runs.paired.opposed import Opposed
from tests.composing import compose_config
from tests.faking import finish, make_plan, start, tell
from tests.marking import slow_except
from tests.test_versus import list_sides


def test_the_baseline_is_the_point_that_is_typed_as_such(tmp_path: Path) -> None:
    point = make_plan(tmp_path, "optimization=[bf16,vision_cache]", "img_size=56", "paired=true")
    typed = make_plan(tmp_path, "optimization=baseline", "img_size=56")
    found = find_baseline(point)
    assert (found.fingerprint, found.point.label()) == (typed.fingerprint, typed.point.label())


def test_every_point_but_the_baseline_is_opposed_to_it(tmp_path: Path) -> None:
    names = ("baseline", "fp32", "bf16", "int8")
    plans = [make_plan(tmp_path, f"optimization={one}", "paired=true") for one in names]
    opposed = oppose([*plans, plans[1]])
    assert [one.a.fingerprint for one in opposed] == [plans[0].fingerprint] * 3
    assert [one.b.fingerprint for one in opposed] == [plan.fingerprint for plan in plans[1:]]
    assert oppose([make_plan(tmp_path, "optimization=bf16")]) == []


def test_the_longest_time_of_comparisons_is_told(tmp_path: Path) -> None:
    keys = ("paired=true", "launches=4", "comparison.time_budget_s=150")
    plans = [make_plan(tmp_path, f"optimization={one}", *keys) for one in ("bf16", "int8")]
    *lines, total = list_comparisons(oppose(plans))
    told = "4 to 20 launches, as many as fit into 2 min 30 s"
    assert [line.rpartition(": ")[2] for line in lines] == [told] * 2
    assert total.startswith("2 comparisons to run, at most 5 min 0 s in all")
    *_, total = list_comparisons(oppose(plans[:1]))
    assert total.startswith("1 comparison to run, at most 2 min 30 s in all")
    assert list(list_comparisons([])) == []


@pytest.mark.parametrize(("launches", "told"), [(1, "1 launch"), (7, "7 launches")])
def test_a_fixed_number_has_no_budget(launches: int, told: str, tmp_path: Path) -> None:
    a, b = (make_plan(tmp_path, f"optimization={one}") for one in ("baseline", "bf16"))
    (line,) = list_comparisons([Opposed(a=a, b=b, launches=launches, is_fixed=True)])
    assert line.endswith(f": {told}")


@pytest.mark.parametrize(
    ("experiment", "paired"),
    [
        ("optimizations", True),
        ("quantization", True),
        ("devices", True),
        ("modality", True),
        ("token_reduction", True),
        ("image_size", False),
    ],
)
def test_experiments_that_compare_variants_are_paired(experiment: str, paired: bool) -> None:
    assert compose_config(f"experiment={experiment}")["paired"] is paired
    assert compose_config(f"experiment={experiment}", "paired=false")["paired"] is False


PAIRED = ("paired=true", "launches=3", "max_new_tokens=2")
SWEEP = ("-m", "optimization=baseline,fp32,bf16", *PAIRED)
QUICKLY = ("comparison.time_budget_s=1", "model=llava")


@pytest.mark.parametrize("others", slow_except(["bf16", "fp32,bf16"], "bf16"))
def test_a_sweep_measures_its_points_and_then_compares_them(others: str, tmp_path: Path) -> None:
    tell(tmp_path)
    command = ("-m", f"optimization=baseline,{others}", *PAIRED, *QUICKLY)
    status, output, errors = finish(start(tmp_path, *command))
    assert status == 0, errors
    number = len(others.split(","))
    assert (
        f"{number} comparison{'s' * (number > 1)} with the baseline: {number} completed" in output
    )
    found = read_comparisons(tmp_path / "results").comparisons
    points = {
        one.summary["optimization"]: one.fingerprint for one in read(tmp_path / "results").records
    }
    assert {one.a for one in found} == {points["baseline"]}
    assert {one.b for one in found} == {points[name] for name in others.split(",")}
    assert f"[{number}/{number}] llava baseline" in errors
    begun = len(list_sides(tmp_path))
    status, output, errors = finish(start(tmp_path, *command))
    assert status == 0
    assert errors.count("kept, A took 1 times as long as B in each of 3 launches") == number
    assert len(list_sides(tmp_path)) == begun


@pytest.mark.slow
def test_a_dry_sweep_lists_the_comparisons(tmp_path: Path) -> None:
    status, output, _ = finish(start(tmp_path, *SWEEP, "dry=true"))
    assert status == 0
    assert sum("3 to 20 launches" in line for line in output.splitlines()) == 2
    assert list_sides(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["failed", "unsupported", "out_of_memory"])
def test_a_side_that_fails_is_a_line_and_the_others_are_compared(how: str, tmp_path: Path) -> None:
    tell(tmp_path, tokens2=how)
    status, output, errors = finish(start(tmp_path, *SWEEP, *QUICKLY))
    assert status == (1 if how == "failed" else 0) and "Traceback" not in errors
    assert f"2 comparisons with the baseline: 2 {how}" in output
    assert errors.count(f"not compared: A {how}: as told") == 2


def test_a_point_that_cannot_be_had_is_not_compared(tmp_path: Path) -> None:
    tell(tmp_path, s112="unsupported")
    command = ("img_size=112", "optimization=bf16", "paired=true", *QUICKLY)
    status, _, errors = finish(start(tmp_path, *command))
    assert status == 1 and "not compared: the point is unsupported" in errors
    assert list_sides(tmp_path) == []
