"""Results folders of several machines become one: nothing lost, nothing twice, nothing torn."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling import PROJECT, merge
from profiling.arguments import WRONG_CONFIGURATION
from profiling.records import (
    COMPARISONS,
    COMPLETED,
    read,
    read_comparisons,
    write_comparison,
    write_record,
)


def write(folder: Path, fingerprint: str, *, text: str = "one", name: str | None = None) -> Path:
    run = {
        "fingerprint": fingerprint,
        "status": COMPLETED,
        "error": None,
        "config": {"text": text},
        "machine": {},
        "summary": {"fingerprint": fingerprint},
    }
    record = folder / (name or fingerprint)
    write_record(record, run=run, readings=[], answers=[{"id": "1", "answer": text}])
    return record


def texts(folder: Path) -> dict[str, str]:
    """What lies in a results folder: the name of each record, and what tells it from others."""
    collection = read(folder)
    assert collection.problems == []
    return {record.folder.name: record.config["text"] for record in collection.records}


def test_records_of_two_machines_become_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "a", "f1")
    write(tmp_path / "b", "f2", text="two")
    done = merge.merge(tmp_path / "all", [tmp_path / "a", tmp_path / "b"])
    assert texts(tmp_path / "all") == {"f1": "one", "f2": "two"}
    assert [place.name for place in done.added] == ["f1", "f2"]
    assert (done.beside, done.there, done.problems) == ([], [], [])


def compare(folder: Path, name: str, ratio: float) -> Path:
    place = folder / COMPARISONS / name
    content = {"address": "c1", "a": "f1", "b": "f2", "launches": 5, "pairs": 40, "ratio": ratio}
    write_comparison(place, {**content, "phases": {}, "noisy": False})
    (place / "launch-1.json").write_text("{}")
    return place


def test_comparisons_are_merged_as_records_are(tmp_path: Path) -> None:
    compare(tmp_path / "a", "c1", 1.1)
    shutil.copytree(compare(tmp_path / "b", "c1", 1.2), tmp_path / "d" / COMPARISONS / "c1")
    (tmp_path / "d" / COMPARISONS / "torn").mkdir()
    done = merge.merge(tmp_path / "all", [tmp_path / name for name in "abd"])
    found = {
        one.folder.name: one.whole.ratio for one in read_comparisons(tmp_path / "all").comparisons
    }
    assert found == {"c1": 1.1, "c1-2": 1.2}
    assert (tmp_path / "all" / COMPARISONS / "c1" / "launch-1.json").is_file()
    assert (len(done.added), len(done.beside), len(done.there)) == (1, 1, 1)
    assert len(done.problems) == 1 and "torn" in done.problems[0]
    assert texts(tmp_path / "all") == {}


def test_the_sources_stay_as_they_are(tmp_path: Path) -> None:
    write(tmp_path / "a", "f1")
    before = merge.digest(tmp_path / "a")
    merge.merge(tmp_path / "all", [tmp_path / "a"])
    assert merge.digest(tmp_path / "a") == before
    assert merge.digest(tmp_path / "all" / "f1") == merge.digest(tmp_path / "a" / "f1")


def test_equal_records_are_kept_once(tmp_path: Path) -> None:
    record = write(tmp_path / "a", "f1")
    shutil.copytree(record, tmp_path / "b" / "f1")
    shutil.copytree(record, tmp_path / "b" / "f1-2")
    done = merge.merge(tmp_path / "all", [tmp_path / "a", tmp_path / "b"])
    assert texts(tmp_path / "all") == {"f1": "one"}
    assert len(done.there) == 2


def test_different_records_of_one_point_stay_side_by_side(tmp_path: Path) -> None:
    for machine in "abc":
        write(tmp_path / machine, "f1", text=machine)
    done = merge.merge(tmp_path / "all", [tmp_path / machine for machine in "abc"])
    assert texts(tmp_path / "all") == {"f1": "a", "f1-2": "b", "f1-3": "c"}
    assert [place.name for place in done.beside] == ["f1-2", "f1-3"]


def test_a_record_that_differs_in_its_answers_alone_is_another(tmp_path: Path) -> None:
    record = write(tmp_path / "a", "f1")
    shutil.copytree(record, tmp_path / "b" / "f1")
    (tmp_path / "b" / "f1" / "answers.jsonl").write_text('{"id": "1", "answer": "else"}\n')
    merge.merge(tmp_path / "all", [tmp_path / "a", tmp_path / "b"])
    assert sorted(texts(tmp_path / "all")) == ["f1", "f1-2"]


def test_a_second_measurement_keeps_a_number(tmp_path: Path) -> None:
    write(tmp_path / "a", "f1", text="first")
    write(tmp_path / "a", "f1", text="second", name="f1-2")
    write(tmp_path / "all", "f1", text="here")
    merge.merge(tmp_path / "all", [tmp_path / "a"])
    assert texts(tmp_path / "all") == {"f1": "here", "f1-2": "first", "f1-3": "second"}


def test_merging_again_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a", "f1", text="a")
    write(tmp_path / "b", "f1", text="b")
    sources = [tmp_path / "a", tmp_path / "b"]
    merge.merge(tmp_path / "all", sources)
    before = texts(tmp_path / "all")
    done = merge.merge(tmp_path / "all", sources[::-1])
    assert texts(tmp_path / "all") == before
    assert (done.added, done.beside, len(done.there)) == ([], [], 2)


def test_torn_and_broken_records_are_named_and_left(tmp_path: Path) -> None:
    write(tmp_path / "a", "f1")
    (tmp_path / "a" / "torn").mkdir()
    (write(tmp_path / "a", "cut") / "readings.csv").write_text("phase,met")
    (write(tmp_path / "a", "no") / "run.json").write_text("{")
    done = merge.merge(tmp_path / "all", [tmp_path / "a"])
    assert texts(tmp_path / "all") == {"f1": "one"}
    ends = sorted(problem.split(":")[0].removeprefix(f"{tmp_path}/a/") for problem in done.problems)
    assert ends == ["cut/readings.csv", "no/run.json", "torn"]


def test_what_is_torn_where_records_go_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "a", "f1")
    torn = tmp_path / "all" / "f1"
    torn.mkdir(parents=True)
    merge.merge(tmp_path / "all", [tmp_path / "a"])
    assert list(torn.iterdir()) == []
    assert (tmp_path / "all" / "f1-2" / "run.json").is_file()


@pytest.mark.parametrize("fingerprint", ["..", ".", ".hidden"])
def test_a_fingerprint_cannot_lead_elsewhere(tmp_path: Path, fingerprint: str) -> None:
    write(tmp_path / "a", fingerprint, name="f1")
    done = merge.merge(tmp_path / "deep" / "all", [tmp_path / "a"])
    assert len(done.problems) == 1 and done.added == []
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["all"]


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", "f1")

    def fail(folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(merge, "_sync", fail)
    with pytest.raises(OSError, match="No space"):
        merge.merge(tmp_path / "all", [tmp_path / "a"])
    assert [path.name for path in (tmp_path / "all").iterdir()] == [".locks"]


def test_a_record_that_changes_meanwhile_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", "f1")
    copytree = shutil.copytree

    def change(source: Path, target: Path, *, symlinks: bool) -> None:
        (source / "answers.jsonl").write_text("")
        copytree(source, target, symlinks=symlinks)

    monkeypatch.setattr(merge.shutil, "copytree", change)
    done = merge.merge(tmp_path / "all", [tmp_path / "a"])
    assert "changed while" in done.problems[0]
    assert texts(tmp_path / "all") == {}


def test_what_a_killed_merge_left_is_cleared_away(tmp_path: Path) -> None:
    write(tmp_path / "a", "f1")
    (tmp_path / "all" / ".merging-f1").mkdir(parents=True)
    merge.merge(tmp_path / "all", [tmp_path / "a"])
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [".locks", "f1"]


RECORDS = st.lists(st.tuples(st.sampled_from(["f1", "f2", "f3"]), st.sampled_from("abcd")))


@settings(max_examples=25, deadline=None)
@given(machines=st.lists(RECORDS, min_size=1, max_size=3))
def test_none_is_lost_whatever_is_merged(
    tmp_path_factory: pytest.TempPathFactory, machines: list[list[tuple[str, str]]]
) -> None:
    root = tmp_path_factory.mktemp("machines")
    sources = [root / str(number) for number in range(len(machines))]
    for source, records in zip(sources, machines, strict=True):
        source.mkdir()
        for number, (fingerprint, text) in enumerate(records):
            write(source, fingerprint, text=text, name=f"{fingerprint}-{number}")
    merge.merge(root / "all", sources)
    merged = [(r.fingerprint, r.config["text"]) for r in read(root / "all").records]
    assert sorted(merged) == sorted({one for records in machines for one in records})


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "profiling.merge", *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    write(tmp_path / "a", "f1", text="a")
    write(tmp_path / "b", "f1", text="b")
    (tmp_path / "b" / "torn").mkdir()
    done = run(tmp_path / "all", tmp_path / "a", tmp_path / "b")
    assert done.returncode == merge.LEFT_SOME
    counts = "1 added, 1 more beside another record of the same point, 0 there already, 1 left out"
    assert done.stdout == f"{tmp_path / 'all'}: {counts}\n"
    assert done.stderr.startswith(f"left out: {tmp_path / 'b' / 'torn'}: no run.json")
    assert run(tmp_path / "all", tmp_path / "a").returncode == merge.MERGED


def test_wrong_folders_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a", "f1")
    (tmp_path / "file").write_text("")
    for into, source in (("all", "nowhere"), ("a", "a"), ("file", "a"), ("all", "file")):
        typed = ["merge", str(tmp_path / into), str(tmp_path / source)]
        monkeypatch.setattr(sys, "argv", typed)
        assert merge.main() == WRONG_CONFIGURATION
        errors = capsys.readouterr().err
        assert errors.count("\n") == 1 and "allowed" in errors
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize("place", ["into", "from"])
def test_a_path_that_is_too_long_is_one_line(place: str, tmp_path: Path) -> None:
    long, there = tmp_path / ("d" * 5000), tmp_path / "a"
    write(there, "f1")
    done = run(*((long, there) if place == "into" else (there, long)))
    assert done.returncode == (merge.LEFT_SOME if place == "into" else WRONG_CONFIGURATION)
    assert done.stderr.count("\n") == 1 and len(done.stderr) < 400


def test_a_record_whose_lock_is_blocked_is_named_and_the_others_arrive(tmp_path: Path) -> None:
    write(tmp_path / "a", "f1")
    write(tmp_path / "a", "f2")
    (tmp_path / "all" / ".locks" / "f1").mkdir(parents=True)
    done = run(tmp_path / "all", tmp_path / "a")
    assert done.returncode == merge.LEFT_SOME
    assert done.stderr.startswith(f"left out: {tmp_path / 'a' / 'f1'}: ")
    assert "cannot be locked" in done.stderr and done.stderr.count("\n") == 1
    assert list(texts(tmp_path / "all")) == ["f2"]
