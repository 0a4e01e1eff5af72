"""The command that compares two points, with fake children: what it prints, keeps and refuses."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from profiling.records import read_comparisons
from profiling.versus import main
from tests.faking import RUN_VERSUS, await_that, finish, start, tell
from tests.runs.test_session import INTERRUPTED, is_gone

SIDES = ("max_new_tokens=6", "max_new_tokens=3")


def versus(folder: Path, *arguments: str) -> tuple[int, str, str]:
    return finish(start(folder, *arguments, command=RUN_VERSUS))


def list_sides(folder: Path) -> list[list[str]]:
    """The processes that were started: process, tokens, what it was told."""
    path = folder / "sides.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def comparisons(folder: Path) -> list[dict[str, Any]]:
    return [one.content for one in read_comparisons(folder / "results").comparisons]


def test_two_points_are_compared_kept_and_written(tmp_path: Path) -> None:
    tell(tmp_path)
    command = (*SIDES, "model=llava", "--launches", "3", "--json", "made/out.json")
    status, output, errors = versus(tmp_path, *command)
    assert status == 0, errors
    assert "A took 2 times as long as B in each of 3 launches" in output.splitlines()[-1]
    assert "A: llava baseline" in output and "max_new_tokens=6" in output
    for row in ("whole", "decode"):
        assert any(line.startswith(row) and " ms" in line for line in output.splitlines())
    (found,) = comparisons(tmp_path)
    assert json.loads((tmp_path / "made" / "out.json").read_text()) == found
    assert (found["launches"], found["stopped_by"]) == (3, "fixed")
    assert found["ratio"] == pytest.approx(2)
    # The passes take planted times, which do not vary.
    assert (found["ci_low"], found["ci_high"]) == (None, None)
    assert found["phases"].keys() == {"decode"}
    processes = [pid for pid, *_ in list_sides(tmp_path)]
    assert len(set(processes)) == 6 and all(map(is_gone, processes))
    again, kept, _ = versus(tmp_path, *command)
    assert (again, kept) == (0, output)
    assert len(list_sides(tmp_path)) == 6


def test_a_reader_who_has_seen_enough_gets_no_traceback(tmp_path: Path) -> None:
    process = start(tmp_path, *SIDES, "dry=true", command=RUN_VERSUS)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 1


def test_what_both_share_is_replaced_by_what_a_side_says(tmp_path: Path) -> None:
    status, output, _ = versus(tmp_path, "", "model=fuyu", "model=llava", "dry=true")
    assert status == 0 and "llava baseline" in output and "fuyu baseline" in output
    assert "5 to 20 launches, as many as fit into 5 min 0 s" in output
    assert list_sides(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("max_new_tokens=6",), "required: B"),
        (("max_new_tokens=0", "max_new_tokens=3"), "max_new_tokens=0"),
        (("max_new_tokens=6", "max_new_tokns=3"), "max_new_tokns"),
        (("max_new_tokens=6,7", "max_new_tokens=3"), "a comparison has two points"),
        (("experiment=models", "max_new_tokens=3"), "a comparison has two points"),
        ((*SIDES, "optimization=nothing"), "optimization=nothing"),
        (('model="llava', "max_new_tokens=3"), "No closing quotation"),
        ((*SIDES, "--launches", "0"), "--launches"),
        ((*SIDES, "--json", "."), "--json=."),
        ((*SIDES, "--json", "file/out.json"), "--json=file/out.json"),
        ((*SIDES, "launches=0"), "launches=0"),
        (("max_new_tokens=6", "max_new_tokens=3 launches=7"), "launches=5: the other side has 7;"),
        (("results_dir=here", "max_new_tokens=3"), "results_dir=here: the other side has results;"),
        (
            ("comparison.most_launches=9", "model=llava"),
            "comparison.most_launches=9: the other side has 20;",
        ),
        ((*SIDES, "comparison.relative_target=0"), "comparison.relative_target=0"),
        ((*SIDES, "comparison.time_budget=9"), "comparison.time_budget"),
    ],
)
def test_a_wrong_configuration_is_one_line(
    arguments: tuple[str, ...],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["versus", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    output, errors = capsys.readouterr()
    assert (ended.value.code, output) == (2, "")
    (line,) = errors.splitlines()
    assert named in line


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "how",
    [
        "failed",
        pytest.param("unsupported", marks=SLOW),
        pytest.param("out_of_memory", marks=SLOW),
        pytest.param("SIGKILL", marks=SLOW),
    ],
)
def test_a_side_that_fails_is_one_line_and_no_comparison(how: str, tmp_path: Path) -> None:
    tell(tmp_path, tokens3=how)
    status, _, errors = versus(tmp_path, *SIDES)
    assert status == 1 and "Traceback" not in errors
    expected = "killed by signal 9" if how == "SIGKILL" else f"B {how}: as told"
    assert expected in errors.splitlines()[-1]
    assert comparisons(tmp_path) == []
    assert all(is_gone(pid) for pid, *_ in list_sides(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_comparison_leaves_no_process_and_goes_on(
    sign: signal.Signals, tmp_path: Path
) -> None:
    tell(tmp_path)
    command = (*SIDES, "--launches", "3")
    process = start(tmp_path, *command, command=RUN_VERSUS)
    await_that(lambda: len(list_sides(tmp_path)) >= 3)
    os.kill(process.pid, sign)
    status, _, errors = finish(process)
    assert status == INTERRUPTED and "Traceback" not in errors
    assert "the same command goes on from here" in errors
    assert comparisons(tmp_path) == []
    begun = list_sides(tmp_path)
    await_that(lambda: all(is_gone(pid) for pid, *_ in begun))
    assert versus(tmp_path, *command)[0] == 0
    assert len(list_sides(tmp_path)) - len(begun) < 6
    assert comparisons(tmp_path)[0]["launches"] == 3


@pytest.mark.slow
def test_a_killed_parent_leaves_no_process(tmp_path: Path) -> None:
    tell(tmp_path, tokens3="hang")
    process = start(tmp_path, *SIDES, command=RUN_VERSUS)
    await_that(lambda: len(list_sides(tmp_path)) == 2)
    process.kill()
    finish(process)
    await_that(lambda: all(is_gone(pid) for pid, *_ in list_sides(tmp_path)))
