"""Comparisons are written at once and read back; interrupted and broken ones are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from profiling.records import (
    COMPARISON_FILE,
    COMPARISONS,
    BrokenRecord,
    Compared,
    read,
    read_comparison,
    read_comparisons,
    write_comparison,
)


def content_of(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "a": "aaaa",
        "b": "bbbb",
        "launches": 5,
        "pairs": 120,
        "ratio": 1.31,
        "ci_low": 1.28,
        "ci_high": 1.34,
        "between_launch_sd": 0.01,
        "within_launch_sd": 0.05,
        "noisy": False,
        "noise_reason": None,
        "phases": {"vision": {"ratio": 1.5, "ci_low": 1.4, "ci_high": 1.6, "pairs": 120}},
    }
    return plain | changes


def write(results: Path, name: str = "cccc", **changes: Any) -> Path:
    folder = results / COMPARISONS / name
    write_comparison(folder, content_of(**changes))
    return folder


def test_a_comparison_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path)
    (found,) = read_comparisons(tmp_path).comparisons
    assert (found.address, found.a, found.b) == ("cccc", "aaaa", "bbbb")
    assert found.whole == Compared(
        ratio=1.31,
        ci_low=1.28,
        ci_high=1.34,
        launches=5,
        pairs=120,
        between_launch_sd=0.01,
        within_launch_sd=0.05,
    )
    assert found.phases["vision"].ci_high == 1.6
    assert (found.noisy, found.noise_reason) == (False, None)
    assert found.content["schema_version"] == 1
    assert [path.name for path in found.folder.iterdir()] == [COMPARISON_FILE]


def test_comparisons_are_no_runs(tmp_path: Path) -> None:
    write(tmp_path)
    collection = read(tmp_path)
    assert (collection.records, collection.problems) == ([], [])


def test_an_interrupted_comparison_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / COMPARISONS / "dddd").mkdir()
    (tmp_path / COMPARISONS / "dddd" / f".{COMPARISON_FILE}.17").write_text('{"a": ')
    found = read_comparisons(tmp_path)
    assert [one.address for one in found.comparisons] == ["cccc"]
    (problem,) = found.problems
    assert problem.endswith("dddd: no comparison.json: the comparison was interrupted")


def test_a_folder_without_comparisons_has_none(tmp_path: Path) -> None:
    found = read_comparisons(tmp_path / "nothing here")
    assert (found.comparisons, found.problems) == ([], [])


@pytest.mark.parametrize(
    "changes",
    [
        {"ratio": None},
        {"ratio": 0},
        {"ratio": "1.3"},
        {"ratio": 1e200},
        {"launches": 2.5},
        {"pairs": True},
        {"noisy": "no"},
        {"phases": []},
        {"phases": {"vision": 1.3}},
        {"phases": {"vision": {"ci_low": 1.0}}},
        {"a": "../elsewhere"},
        {"b": None},
        {"schema_version": 99},
    ],
)
def test_what_cannot_be_right_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    folder = write(tmp_path)
    path = folder / COMPARISON_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(BrokenRecord, match=str(path)):
        read_comparison(folder)


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path)
    path = folder / COMPARISON_FILE
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BrokenRecord, match="not valid JSON"):
        read_comparison(folder)


def test_a_comparison_without_an_interval_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path, launches=1, ci_low=None, ci_high=None, between_launch_sd=None)
    assert read_comparison(folder).whole.ci_low is None
