"""The roofline: what limits a phase, and by how much, with numbers computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiling.report import read_runs
from profiling.report.say.explanation import explain_run
from profiling.report.say.limits import Place, find_places
from profiling.report.write.pages import write_pages
from tests.report.synthetic import write_run


def place(*, flops: float, moved_bytes: float, seconds: float) -> Place:
    return Place(
        phase="vision",
        seconds=seconds,
        flops=flops,
        moved_bytes=moved_bytes,
        peak_flops_per_s=1e12,
        peak_bytes_per_s=1e11,
    )


def test_much_work_on_little_data_is_bound_by_compute() -> None:
    found = place(flops=2e12, moved_bytes=1e10, seconds=4)
    assert found.intensity == 200
    assert not found.is_bound_by_memory
    assert found.least_s == pytest.approx(2)


def test_little_work_on_much_data_is_bound_by_memory() -> None:
    found = place(flops=1e9, moved_bytes=1e11, seconds=4)
    assert found.is_bound_by_memory
    assert found.least_s == pytest.approx(1)


def test_batches_that_differ_are_placed_by_their_own_costs(tmp_path: Path) -> None:
    """The first batch is the dearest by far: twenty times the usual one."""
    least = {"vision_s": 0.01, "flops_vision": 1e13, "least_vision_s": 0.005}
    write_run(tmp_path / "r", summary=least)
    found = read_runs(tmp_path / "r")
    (vision, *_) = find_places(found.runs[0])
    assert vision.least_s == 0.005
    assert vision.reached_flops_per_s == pytest.approx(5e11 / 0.01)
    pages = write_pages(found, tmp_path / "o", command="x").parent
    text = (pages / "llava.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| vision | compute |"))
    assert row.split("|")[3:6] == [" 10.0 ", " 5.00 ", " 50% "]
    explained = "\n".join(explain_run(found.runs[0], found.runs))
    assert "vision: 10.0 ms, at least 5.00 ms on this device (2.00×)" in explained


def test_the_page_shows_it_where_peaks_are_known(tmp_path: Path) -> None:
    write_run(tmp_path / "r", summary={"vision_s": 0.01, "flops_vision": 5e11})
    write_run(tmp_path / "r", model="fuyu", summary={"peak_flops_per_s": None})
    found = read_runs(tmp_path / "r")
    pages = write_pages(found, tmp_path / "o", command="x").parent
    text = (pages / "llava.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| vision | compute |"))
    assert row.split("|")[3:6] == [" 10.0 ", " 5.00 ", " 50% "]
    assert "Achieved against attainable" not in (pages / "fuyu.md").read_text(encoding="utf-8")
    assert {bool(find_places(run)) for run in found.runs} == {True, False}
