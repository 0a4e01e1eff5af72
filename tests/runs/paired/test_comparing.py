"""A comparison from its launches to its record: planted ratios, interruption, failures, memory."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from profiling.records import (
    FAILED,
    OUT_OF_MEMORY,
    UNSUPPORTED,
    Comparison,
    read,
    read_comparisons,
    write_record,
)
from profiling.runs.paired.comparing import Comparer
from profiling.runs.paired.opposed import Opposed, find_kept
from profiling.runs.paired.showing import describe, show
from profiling.runs.paired.side import SideFailed
from profiling.statistics.student import student_quantile
from tests.faking import make_plan
from tests.runs.paired.scripted import Script

GB = 10**9


def oppose(
    folder: Path, *shared: str, a: str = "", b: str = "max_new_tokens=53", number: int | None = None
) -> Opposed:
    sides = (make_plan(folder, "model=llava", *shared, *side.split()) for side in (a, b))
    plan_a, plan_b = sides
    launches = number or plan_a.point.launches
    return Opposed(a=plan_a, b=plan_b, launches=launches, is_fixed=number is not None)


def measure(opposed: Opposed, script: Script) -> Comparison:
    return Comparer(opposed, notify=lambda _: None, means=script.means()).run()


def failure(status: str, side: str = "b") -> SideFailed:
    return SideFailed(side=side, status=status, error="as told", traceback="a trace")


# What is found


def test_a_planted_ratio_is_found_whole_and_by_phase(tmp_path: Path) -> None:
    script = Script(
        factors={"a": 1.2, "b": 1.0}, decode_factors={"a": 1.5}, between=0.005, within=0.03
    )
    found = measure(oppose(tmp_path), script)
    planted = 1.2 * (0.01 + 1.5 * 0.03) / 0.04
    assert found.whole.ci_low is not None and found.whole.ci_high is not None
    assert found.whole.ci_low < planted < found.whole.ci_high
    assert found.whole.ci_high / found.whole.ci_low < 1.06
    assert found.phases["vision"].ratio == pytest.approx(1.2, rel=0.03)
    assert found.phases["decode"].ratio == pytest.approx(1.8, rel=0.03)
    assert list(found.phases) == ["vision", "decode"]
    assert (found.whole.launches, found.noisy) == (5, False)
    assert found.content["stopped_by"] == "interval"


def test_everything_can_be_computed_again_from_the_launches(tmp_path: Path) -> None:
    found = measure(oppose(tmp_path), Script(between=0.01, within=0.05))
    launches = found.content["by_launch"]
    for place, whole in ((lambda one: one, found.whole), (_vision_of, found.phases["vision"])):
        each = [place(launch) for launch in launches]
        means = [one["mean_log_ratio"] for one in each]
        centre = fmean(means)
        reach = student_quantile(0.975, 4) * stdev(means) / math.sqrt(len(means))
        assert len(means) == 5
        assert whole.ratio == pytest.approx(math.exp(centre))
        assert whole.ci_low == pytest.approx(math.exp(centre - reach))
        assert whole.ci_high == pytest.approx(math.exp(centre + reach))
        pairs = [launch["pairs"] for launch in launches]
        freedom = sum(count - 1 for count in pairs)
        squares = sum(
            one["sd_log_ratio"] ** 2 * (n - 1) for one, n in zip(each, pairs, strict=True)
        )
        assert whole.within_launch_sd == pytest.approx(math.sqrt(squares / freedom))
        assert whole.pairs == sum(pairs)
    assert 0.01 < (found.whole.between_launch_sd or 0) < 0.04


def _vision_of(launch: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = launch["phases"]["vision"]
    return found


def test_exchanging_the_sides_turns_the_ratio_over(tmp_path: Path) -> None:
    there = measure(oppose(tmp_path), Script(factors={"a": 1.3, "b": 1.0}))
    back = measure(
        oppose(tmp_path, a="max_new_tokens=53", b=""), Script(factors={"a": 1.0, "b": 1.3})
    )
    assert there.whole.ratio * back.whole.ratio == pytest.approx(1)
    assert there.address != back.address and there.a == back.b


def test_the_record_says_what_was_compared(tmp_path: Path) -> None:
    opposed = oppose(tmp_path)
    found = measure(opposed, Script())
    content = found.content
    assert (found.a, found.b) == (opposed.a.fingerprint, opposed.b.fingerprint)
    assert content["configs"]["a"]["max_new_tokens"] == 50
    assert content["labels"]["a"].endswith("max_new_tokens=50")
    assert content["labels"]["b"].endswith("max_new_tokens=53")
    assert content["interleaved"] == "passes" and content["same_batches"]
    assert content["settings"]["launches"] == 5
    wanted = {"machine", "versions", "git", "started_at", "finished_at", "noise_reason"}
    assert wanted < content.keys()
    assert read(tmp_path / "results").problems == []
    assert [one.address for one in read_comparisons(tmp_path / "results").comparisons] == [
        opposed.address
    ]


def test_a_phase_that_one_side_does_not_mark_is_left_out(tmp_path: Path) -> None:
    found = measure(oppose(tmp_path), Script(blind={"b": ("vision",)}))
    assert list(found.phases) == ["decode"]
    assert found.content["phases_left_out"] == {"vision": "one side does not mark it"}


def test_noise_is_recorded_and_refused_where_that_was_asked_for(tmp_path: Path) -> None:
    found = measure(oppose(tmp_path), Script(noise="others"))
    assert found.noisy and found.noise_reason == "in 5 of 5 launches; launch 1: others"
    strict = oppose(tmp_path, "strict=true", b="max_new_tokens=54")
    with pytest.raises(SideFailed, match="strict=true and the machine was busy: others"):
        measure(strict, Script(noise="others"))
    assert find_kept(strict) is None


def test_sides_without_the_same_samples_are_named(tmp_path: Path) -> None:
    found = measure(oppose(tmp_path, b="num_samples=2"), Script())
    assert not found.content["same_batches"]
    assert "the two passes of a pair did not have the same samples" in list(show(found))


# How long


def test_wild_launches_are_followed_by_more_with_more_pairs(tmp_path: Path) -> None:
    script = Script(within=0.3, load_s=1.0, slow=10.0)
    found = measure(oppose(tmp_path, "comparison.time_budget_s=150"), script)
    pairs = [launch["pairs"] for launch in found.content["by_launch"]]
    assert len(set(pairs[:5])) == 1 and len(pairs) > 5
    assert min(pairs[5:]) > pairs[0]
    assert found.content["stopped_by"] in ("interval", "time_budget")


def test_the_first_launch_has_the_pairs_that_their_spread_asks_for(tmp_path: Path) -> None:
    scripts = {within: Script(within=within, load_s=0.4) for within in (0.0, 0.1, 0.3)}
    counts = {}
    for within, script in scripts.items():
        found = measure(oppose(tmp_path / str(within)), script)
        (counts[within],) = {one["pairs"] for one in found.content["by_launch"][:5]}
    assert counts[0.0] < 24
    # Log ratios spread sqrt(2) times as much as the times of a side.
    needed = (2.776445 * 0.1 * math.sqrt(2) / (0.8 * math.log(1.03) * math.sqrt(5))) ** 2
    assert counts[0.1] == pytest.approx(needed, rel=0.5)
    assert counts[0.3] == 200


def test_no_launch_takes_more_than_its_share_for_more_pairs(tmp_path: Path) -> None:
    script = Script(within=0.3, load_s=0.4)
    found = measure(oppose(tmp_path, "comparison.time_budget_s=30"), script)
    first = found.content["by_launch"][:5]
    assert 24 < first[0]["pairs"] < 100
    assert sum(one["took_s"] for one in first) < 30


def test_the_time_budget_ends_it_but_not_below_three_launches(tmp_path: Path) -> None:
    opposed = oppose(tmp_path, "comparison.time_budget_s=10")
    found = measure(opposed, Script(between=0.1, load_s=30.0))
    assert found.whole.launches == 3 and found.whole.ci_low is not None
    assert found.content["stopped_by"] == "time_budget"
    assert {launch["pairs"] for launch in found.content["by_launch"]} == {8}


@pytest.mark.parametrize(("pass_s", "most_s"), [(8.0, 350.0), (60.0, 1500.0)])
def test_slow_passes_take_a_few_of_them_and_no_more(
    pass_s: float, most_s: float, tmp_path: Path
) -> None:
    script = Script(between=0.01, load_s=10.0, slow=pass_s / 0.04, cold=())
    found = measure(oppose(tmp_path, "comparison.time_budget_s=180"), script)
    assert found.whole.launches == 3 and found.whole.ci_low is not None
    assert found.content["stopped_by"] == "time_budget"
    for launch in found.content["by_launch"]:
        assert launch["pairs"] == 2
        assert launch["warmup"] == {"a": 1, "b": 1}
    assert script.clock_s <= most_s


def test_a_fixed_number_of_launches_is_measured_in_full_however_slow(tmp_path: Path) -> None:
    found = measure(oppose(tmp_path, number=3), Script(between=0.01, slow=200.0))
    assert {launch["pairs"] for launch in found.content["by_launch"]} == {8}


def test_noise_of_slow_passes_does_not_prolong_a_fixed_number_of_launches(
    tmp_path: Path,
) -> None:
    script = Script(within=0.3, load_s=2.0, slow=50.0)
    found = measure(oppose(tmp_path, "comparison.time_budget_s=300", number=5), script)
    launches = found.content["by_launch"]
    # As many as take about as long as the start.
    assert len({launch["pairs"] for launch in launches}) == 1
    assert launches[0]["pairs"] < 1.5 * launches[0]["start_s"] / launches[0]["a_median_s"] / 2


@pytest.mark.parametrize("number", [1, 3, 7])
def test_a_number_that_was_asked_for_is_kept(number: int, tmp_path: Path) -> None:
    opposed = oppose(tmp_path, "comparison.time_budget_s=1", number=number)
    found = measure(opposed, Script(between=0.2))
    assert found.whole.launches == number
    assert found.content["stopped_by"] == "fixed"
    assert (found.whole.ci_low is None) == (number < 3)


def test_the_address_covers_the_settings_and_both_points(tmp_path: Path) -> None:
    addresses = {
        oppose(tmp_path).address,
        oppose(tmp_path, b="max_new_tokens=54").address,
        oppose(tmp_path, number=5).address,
        oppose(tmp_path, "launches=6").address,
        oppose(tmp_path, "comparison.relative_target=0.01").address,
    }
    assert len(addresses) == 5
    assert oppose(tmp_path).address == oppose(tmp_path, "strict=true").address


@pytest.mark.parametrize("least", [1, 2])
def test_fewer_launches_than_an_interval_needs_are_only_a_fixed_number(
    least: int, tmp_path: Path
) -> None:
    found = measure(oppose(tmp_path, f"launches={least}"), Script(between=0.001, within=0.01))
    assert found.whole.launches == 3 and found.whole.ci_low is not None
    assert found.content["stopped_by"] == "interval"


def test_launches_of_many_pairs_go_on_in_the_order_of_the_batches(tmp_path: Path) -> None:
    script = Script(within=0.3, load_s=1.0, slow=10.0)
    opposed = oppose(tmp_path, "comparison.time_budget_s=150")
    pairs = [one["pairs"] for one in measure(opposed, script).content["by_launch"]]
    assert len(set(pairs)) > 1
    begun = [position for _, side, position in script.events("begin") if side == "a"]
    assert begun == [sum(pairs[:number]) for number in range(len(pairs))]


# Interruption


def test_finished_launches_of_an_interrupted_comparison_are_used(tmp_path: Path) -> None:
    opposed = oppose(tmp_path)
    broken = Script(between=0.01, failures={("b", 150): KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        measure(opposed, broken)
    done = len(list((tmp_path / "results/comparisons").glob("*/launch-*.json")))
    assert 1 <= done < 5
    assert find_kept(opposed) is None
    (problem,) = read_comparisons(tmp_path / "results").problems
    assert "interrupted" in problem
    second = Script(between=0.01)
    found = measure(opposed, second)
    assert len(second.events("start")) == 2 * (5 - done)
    assert [one["number"] for one in found.content["by_launch"]] == [1, 2, 3, 4, 5]
    assert len({one["pairs"] for one in found.content["by_launch"]}) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:200],
        lambda text: text.replace('"address": "', '"address": "x'),
        pytest.param(
            lambda text: json.dumps({**json.loads(text), "launch": {"number": 1}}),
            marks=pytest.mark.slow,
        ),
        pytest.param(lambda text: "[]", marks=pytest.mark.slow),
    ],
)
def test_a_broken_launch_is_measured_again(damage: Any, tmp_path: Path) -> None:
    opposed = oppose(tmp_path)
    folder = measure(opposed, Script()).folder
    (folder / "comparison.json").unlink()
    (folder / "launch-3.json").write_text(damage((folder / "launch-3.json").read_text()))
    script = Script()
    measure(opposed, script)
    assert len(script.events("start")) == 2 * 3


def test_a_finished_comparison_is_kept_and_resume_false_writes_beside_it(tmp_path: Path) -> None:
    opposed = oppose(tmp_path)
    first = measure(opposed, Script())
    kept = find_kept(opposed)
    assert kept is not None and kept.content == first.content
    again = oppose(tmp_path, "resume=false")
    assert find_kept(again) is None
    second = measure(again, Script())
    assert second.folder.name == f"{first.folder.name}-2"
    assert first.folder.is_dir()


# Failures


@pytest.mark.parametrize("status", [FAILED, UNSUPPORTED])
def test_a_side_that_fails_ends_it(status: str, tmp_path: Path) -> None:
    opposed = oppose(tmp_path)
    script = Script(failures={("b", "loading"): failure(status)})
    with pytest.raises(SideFailed) as failed:
        measure(opposed, script)
    assert (failed.value.side, failed.value.status) == ("b", status)
    assert len(script.events("start")) == 2
    folder = tmp_path / "results/comparisons" / opposed.address
    assert (folder / "traceback.txt").read_text() == "a trace"
    assert find_kept(opposed) is None


# Memory


def test_sides_that_do_not_fit_are_measured_in_turn_by_launch(tmp_path: Path) -> None:
    opposed = oppose(tmp_path, "weights=random")
    script = Script(weights={"a": 3 * GB, "b": 4 * GB}, free_bytes=10 * GB)
    found = measure(opposed, script)
    assert script.events("weigh") == [("weigh", "a"), ("weigh", "b")]
    assert found.content["interleaved"] == "launches"
    assert found.content["interleaved_reason"].startswith("both sides need 11.2 GB on cpu and 10.0")
    assert [event for event in script.log if event[0] == "begin"][1][1] != "a"
    lines = list(show(found))
    assert any(line.startswith("launches alternated because both sides need") for line in lines)


def test_sides_that_fit_alternate_by_pass(tmp_path: Path) -> None:
    script = Script(weights={"a": 3 * GB, "b": 4 * GB}, free_bytes=30 * GB)
    found = measure(oppose(tmp_path, "weights=random"), script)
    assert (found.content["interleaved"], found.content["interleaved_reason"]) == ("passes", None)


def test_small_stored_weights_need_no_process_to_be_weighed(tmp_path: Path) -> None:
    script = Script(free_bytes=30 * GB)
    measure(oppose(tmp_path), script)
    assert script.events("weigh") == []
    little = Script(free_bytes=2 * GB)
    assert measure(oppose(tmp_path, b=""), little).content["interleaved"] == "launches"


def test_what_a_record_has_measured_goes_before_a_prediction(tmp_path: Path) -> None:
    opposed = oppose(tmp_path, "weights=random")
    for plan in opposed.plans.values():
        run = {"fingerprint": plan.fingerprint, "status": "completed", "config": {}, "machine": {}}
        run["summary"] = {"cpu_memory_peak_bytes": 1 * GB}
        folder = tmp_path / "results" / plan.fingerprint
        write_record(folder, run=run, readings=[], answers=[])
    script = Script(weights={"a": 90 * GB, "b": 90 * GB}, free_bytes=10 * GB)
    assert measure(opposed, script).content["interleaved"] == "passes"
    assert script.events("weigh") == []


def test_sides_that_ran_out_of_memory_together_are_measured_apart(tmp_path: Path) -> None:
    script = Script(failures={("b", "loading"): failure(OUT_OF_MEMORY)})
    found = measure(oppose(tmp_path), script)
    assert found.content["interleaved"] == "launches"
    assert found.content["interleaved_reason"] == "both sides at once ran out of memory: as told"


def test_a_side_that_does_not_fit_alone_ends_it(tmp_path: Path) -> None:
    opposed = oppose(tmp_path, "weights=random")
    script = Script(
        weights={"a": 9 * GB, "b": 9 * GB},
        free_bytes=10 * GB,
        failures={("a", "loading"): failure(OUT_OF_MEMORY, "a")},
    )
    with pytest.raises(SideFailed) as failed:
        measure(opposed, script)
    assert failed.value.status == OUT_OF_MEMORY


# What is said


@pytest.mark.parametrize(
    ("a", "start"),
    [
        (1.31, "A takes 1.31 times as long as B ["),
        (0.5, "A takes 0.50 times as long as B ["),
        (1.0, "no difference shown larger than "),
    ],
)
def test_the_sentence_says_what_was_found(a: float, start: str, tmp_path: Path) -> None:
    script = Script(factors={"a": a, "b": 1.0}, between=0.002, within=0.01)
    found = measure(oppose(tmp_path), script)
    assert describe(found).startswith(start)
    (whole,) = [line for line in show(found) if line.startswith("whole")]
    assert f"{found.whole.ratio:.3f}" in whole


def test_without_an_interval_nothing_is_claimed(tmp_path: Path) -> None:
    found = measure(oppose(tmp_path, number=1), Script(factors={"a": 2.0, "b": 1.0}))
    assert describe(found) == (
        "A took 2 times as long as B in 1 launch; three are needed for an interval"
    )


def test_launches_that_all_give_the_same_ratio_have_no_interval(tmp_path: Path) -> None:
    found = measure(oppose(tmp_path, number=4), Script(factors={"a": 2.0, "b": 1.0}))
    assert (found.whole.ci_low, found.whole.ci_high) == (None, None)
    assert describe(found) == (
        "A took 2 times as long as B in each of 4 launches, so that how much they vary is unknown"
    )
