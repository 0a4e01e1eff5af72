"""Records in trackers: shown once, and never lost to a tracker that is missing or fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from profiling.records import read, read_record
from profiling.trackers.tracker import Drawing, Entry, describe
from profiling.trackers.tracking import Tracking
from tests.faking import finish, make_plan, start, tell
from tests.trackers.tracked import write_tracked


class Fake:
    """Keeps what it is told; fails as often as it is told."""

    shown: list[tuple[Entry, list[str]]]
    failures: list[Exception]

    def __init__(self, *, address: str) -> None:
        assert address == "here"

    def has(self, entry: Entry) -> bool:
        return any(other.id == entry.id for other, _ in Fake.shown)

    def add(self, entry: Entry, drawings: list[Drawing]) -> None:
        if Fake.failures:
            raise Fake.failures.pop()
        assert all(drawing.png.read_bytes().startswith(b"\x89PNG") for drawing in drawings)
        Fake.shown.append((entry, [drawing.name for drawing in drawings]))


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    Fake.shown, Fake.failures = [], []
    monkeypatch.setitem(
        sys.modules,
        "profiling.trackers.fake",
        SimpleNamespace(TRACKER=Fake),  # type: ignore[arg-type]
    )
    return []


def follow(lines: list[str]) -> Tracking:
    return Tracking({"name": "fake", "address": "here"}, lines.append)


def test_a_record_is_shown_once(tmp_path: Path, lines: list[str]) -> None:
    folder = write_tracked(tmp_path)
    for _ in range(2):
        follow(lines).show(folder)
    ((entry, drawn),) = Fake.shown
    assert lines == [] and drawn == ["run_flops", "run_phases", "run_roofline"]
    assert entry.settings["model.name"] == "llava" and entry.settings["img_size"] == "224"
    assert entry.numbers["latency_s"] == read_record(folder).summary["latency_s"]
    assert entry.texts["status"] == "completed" and "wer" in entry.numbers
    assert len(entry.latencies_s) == 10


def test_what_did_not_complete_is_shown_too(tmp_path: Path, lines: list[str]) -> None:
    folder = write_tracked(tmp_path, status="out_of_memory", error="too large")
    follow(lines).show(folder)
    ((entry, drawn),) = Fake.shown
    assert not entry.completed and entry.texts["error"] == "too large" and drawn == []


def test_a_record_that_replaces_another_is_another_run(tmp_path: Path) -> None:
    folder = write_tracked(tmp_path)
    before = describe(read_record(folder)).id
    run = json.loads((folder / "run.json").read_text())
    run["started_at"] = "2027-01-01T00:00:00+00:00"
    (folder / "run.json").write_text(json.dumps(run))
    assert describe(read_record(folder)).id != before


def test_a_failure_is_a_line_and_the_next_time_it_is_shown(
    tmp_path: Path, lines: list[str]
) -> None:
    folder = write_tracked(tmp_path)
    Fake.failures = [RuntimeError("the server\nis down")]
    tracking = follow(lines)
    tracking.show(folder)
    assert Fake.shown == []
    (line,) = lines
    assert line.startswith(f"tracker=fake: {folder} is not shown: RuntimeError: the server is")
    assert "the record is kept" in line
    tracking.show(folder)
    assert len(Fake.shown) == 1 and len(lines) == 1


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_library_is_one_line_for_all_records(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    settings = {"mlflow": {"uri": "u", "experiment": "e"}}.get(
        name, {"project": "p", "folder": ".", "mode": "offline"}
    )
    tracking = Tracking({"name": name, **settings}, lines.append)
    for side in (112, 224):
        tracking.show(write_tracked(tmp_path, img_size=side))
    (line,) = lines
    assert line.startswith(f"tracker={name}: ") and "requirements-trackers.txt" in line


def test_no_tracker_reads_nothing(tmp_path: Path, lines: list[str]) -> None:
    Tracking({"name": "none"}, lines.append).show(tmp_path / "nothing here")
    assert lines == []


@pytest.mark.slow
def test_a_sweep_goes_on_without_its_tracker(tmp_path: Path) -> None:
    """A database where there can be none; or no library at all, which comes to the same."""
    tell(tmp_path)
    command = ("-m", "img_size=112,168", "tracker=mlflow", "tracker.uri=sqlite:////dev/null/no")
    status, output, errors = finish(start(tmp_path, *command))
    assert status == 0 and "completed" in output and "Traceback" not in errors
    assert "tracker=mlflow: " in errors and "the record is kept" in errors
    assert len(read(tmp_path / "results").records) == 2


def test_a_tracker_is_no_part_of_a_points_address(tmp_path: Path) -> None:
    plans = [make_plan(tmp_path, f"tracker={name}") for name in ("none", "wandb")]
    assert [plan.point.tracker["name"] for plan in plans] == ["none", "wandb"]
    assert plans[0].fingerprint == plans[1].fingerprint
    assert plans[0].point.label() == plans[1].point.label()
