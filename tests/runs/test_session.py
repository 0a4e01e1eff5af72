"""Sweeps as people run them: what is kept, what goes on, and what an interruption leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path

import psutil
import pytest

from profiling.records import COMPLETED, FAILED, OUT_OF_MEMORY, UNSUPPORTED, read
from tests.composing import PROJECT
from tests.faking import await_that, finish, list_jobs, start, tell
from tests.marking import slow_except

INTERRUPTED = 130


def statuses(folder: Path) -> dict[int, str]:
    """Picture size to status, of records that are whole."""
    records = read(folder / "results").records
    return {int(record.config["img_size"]): record.status for record in records}


def sizes(folder: Path) -> list[str]:
    return [size for _, _, size, _ in list_jobs(folder)]


def is_gone(pid: str) -> bool:
    try:
        return psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_model_is_loaded_once_whatever_the_order_typed(tmp_path: Path) -> None:
    tell(tmp_path)
    status, output, errors = finish(start(tmp_path, "-m", "img_size=112,224", "model=llava,fuyu"))
    assert (status, len(list_jobs(tmp_path))) == (0, 4), errors
    assert "4 points: 4 completed (0 kept from before); 2 models loaded" in output
    loads = [key for key, _ in groupby((pid, model) for pid, model, *_ in list_jobs(tmp_path))]
    assert len(loads) == 2
    assert "weights=tiny" in output.splitlines()[0] and "weights=tiny" in output.splitlines()[-1]
    for number in range(1, 5):
        assert f"[{number}/4] " in errors
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"actions.json", "jobs.txt", "results"}


@pytest.mark.parametrize(
    ("how", "told"),
    slow_except(
        [
            ("SIGKILL", "killed by signal 9 (SIGKILL)"),
            ("exit", "some last words"),
        ],
        ("SIGKILL", "killed by signal 9 (SIGKILL)"),
    ),
)
def test_a_dead_worker_is_recorded_and_the_sweep_goes_on(
    how: str, told: str, tmp_path: Path
) -> None:
    tell(tmp_path, s112=how)
    command = ("-m", "img_size=112,168")
    status, output, errors = finish(start(tmp_path, *command))
    assert status == 1 and "Traceback" not in errors
    assert statuses(tmp_path) == {112: FAILED, 168: COMPLETED}
    assert told in errors and "2 points: 1 failed, 1 completed" in output
    (tmp_path / "jobs.txt").unlink()
    tell(tmp_path)
    status, output, errors = finish(start(tmp_path, *command))
    assert status == 0 and sizes(tmp_path) == ["112"]
    assert set(statuses(tmp_path).values()) == {COMPLETED}
    assert "2 points: 2 completed (1 kept from before)" in output
    assert errors.count("holds a failed or torn run, which is replaced") == 1


@pytest.mark.slow
def test_what_cannot_be_had_is_an_outcome_of_a_sweep_but_no_completed_point(
    tmp_path: Path,
) -> None:
    tell(tmp_path, s112=UNSUPPORTED, s168=OUT_OF_MEMORY)
    assert finish(start(tmp_path, "-m", "img_size=112,168"))[0] == 0
    assert statuses(tmp_path) == {112: UNSUPPORTED, 168: OUT_OF_MEMORY}
    # Kept, and still not completed.
    assert finish(start(tmp_path, "img_size=168"))[0] == 1
    assert sizes(tmp_path) == ["112", "168"]


@pytest.mark.slow
def test_not_resuming_writes_beside_the_old_records(tmp_path: Path) -> None:
    tell(tmp_path)
    for resume in ("true", "false"):
        assert finish(start(tmp_path, "-m", "img_size=112,168", f"resume={resume}"))[0] == 0
    names = sorted(record.folder.name for record in read(tmp_path / "results").records)
    assert len(names) == 4
    assert names[1::2] == [f"{name}-2" for name in names[::2]]


@pytest.mark.slow
def test_a_record_beside_a_failed_one_is_kept(tmp_path: Path) -> None:
    tell(tmp_path, s112="exit")
    assert finish(start(tmp_path, "img_size=112"))[0] == 1
    tell(tmp_path)
    assert finish(start(tmp_path, "img_size=112", "resume=false"))[0] == 0
    (failed, completed) = sorted(path for path in (tmp_path / "results").glob("[0-9a-f]*"))
    assert completed.name == f"{failed.name}-2"
    status, output, errors = finish(start(tmp_path, "img_size=112"))
    assert status == 0 and "1 point: 1 completed (1 kept from before)" in output
    assert f"kept in results/{completed.name}" in errors
    assert sizes(tmp_path) == ["112", "112"]
    # Where nothing beside it can be kept either, it is the failed one that is replaced.
    (completed / "run.json").unlink()
    assert finish(start(tmp_path, "img_size=112"))[0] == 0
    assert "completed" in (failed / "run.json").read_text()


@pytest.mark.slow
def test_a_record_that_cannot_be_written_is_told_and_the_sweep_goes_on(tmp_path: Path) -> None:
    tell(tmp_path)
    _, listed, _ = finish(start(tmp_path, "-m", "img_size=112,168", "dry=true"))
    assert list_jobs(tmp_path) == []
    (first,) = [line.split()[0] for line in listed.splitlines() if "img_size=112" in line]
    (tmp_path / "results" / first).write_text("in the way", encoding="utf-8")
    status, output, errors = finish(start(tmp_path, "-m", "img_size=112,168"))
    assert status == 1 and "Traceback" not in errors
    assert "there is no record, since it cannot be written" in errors
    assert "2 points: 1 failed, 1 completed" in output
    assert statuses(tmp_path) == {168: COMPLETED}


def block_lock(folder: Path, side: int) -> None:
    """Put a folder in the place of the lock of one point."""
    _, listed, _ = finish(start(folder, "-m", "img_size=112,168", "dry=true"))
    (name,) = [line.split()[0] for line in listed.splitlines() if f"img_size={side}" in line]
    (folder / "results" / ".locks" / name).mkdir()


@pytest.mark.slow
def test_a_point_whose_lock_is_blocked_has_failed_and_the_sweep_goes_on(tmp_path: Path) -> None:
    tell(tmp_path)
    block_lock(tmp_path, 112)
    status, output, errors = finish(start(tmp_path, "-m", "img_size=112,168"))
    assert status == 1 and "Traceback" not in errors
    assert "2 points: 1 failed, 1 completed" in output
    (line,) = [line for line in errors.splitlines() if "failed" in line]
    assert "cannot be locked: Is a directory; remove it" in line
    assert statuses(tmp_path) == {168: COMPLETED}


@pytest.mark.slow
def test_a_single_point_whose_lock_is_blocked_ends_in_one_line(tmp_path: Path) -> None:
    tell(tmp_path)
    block_lock(tmp_path, 112)
    status, output, errors = finish(start(tmp_path, "img_size=112"))
    assert status == 1 and "Traceback" not in errors
    assert "1 point: 1 failed" in output
    assert errors.count("\n") == 1 and "cannot be locked" in errors


@pytest.mark.slow
def test_a_job_that_breaks_off_unforeseen_is_a_failure_of_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(tmp_path)
    status, output, errors = finish(start(tmp_path, "-m", "img_size=112,168", driver=BREAKING))
    assert status == 1 and "Traceback" not in errors
    assert "2 points: 1 failed, 1 completed" in output or "1 completed, 1 failed" in output
    assert "a job broke off: ValueError: unforeseen" in errors


BREAKING = """
from profiling.runs.session import Session
run = Session.run
def break_off(session, plan):
    if plan.point.img_size == 112:
        raise ValueError("unforeseen")
    return run(session, plan)
Session.run = break_off
"""


# Interruptions


def interrupt(folder: Path, number: int) -> tuple[int, str, str]:
    """Start a sweep, and send its process a signal while its second point is measured."""
    tell(folder, s168="hang")
    process = start(folder, "-m", "img_size=112,168")
    await_that(lambda: sizes(folder) == ["112", "168"])
    process.send_signal(number)
    return finish(process)


def check_that_it_goes_on(folder: Path) -> None:
    assert statuses(folder) == {112: COMPLETED}
    tell(folder)
    before = len(list_jobs(folder))
    status, output, _ = finish(start(folder, "-m", "img_size=112,168"))
    assert status == 0 and sizes(folder)[before:] == ["168"]
    assert "(1 kept from before)" in output
    assert statuses(folder) == {112: COMPLETED, 168: COMPLETED}


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interruption_says_how_to_go_on(number: int, tmp_path: Path) -> None:
    status, _, errors = interrupt(tmp_path, number)
    assert status == INTERRUPTED and "Traceback" not in errors
    assert "interrupted after 1 of 2 points; the same command goes on from here" in errors
    assert all(is_gone(pid) for pid, *_ in list_jobs(tmp_path))
    assert statuses(tmp_path) == {112: COMPLETED}


def test_a_killed_sweep_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    assert interrupt(tmp_path, signal.SIGKILL)[0] == -signal.SIGKILL
    await_that(lambda: all(is_gone(pid) for pid, *_ in list_jobs(tmp_path)), within_s=10)
    check_that_it_goes_on(tmp_path)


@pytest.mark.slow
def test_an_interruption_from_the_keyboard_reaches_the_whole_group(tmp_path: Path) -> None:
    """A terminal signals every process in front of it; the worker is not to die of it first."""
    tell(tmp_path, s112="nap")
    process = start(tmp_path, "img_size=112")
    await_that(lambda: bool(list_jobs(tmp_path)))
    os.killpg(process.pid, signal.SIGINT)
    status, _, errors = finish(process)
    assert status == INTERRUPTED and "killed by signal" not in errors
    assert statuses(tmp_path) == {}


# Several at once


def test_of_two_equal_sweeps_the_second_waits_and_runs_nothing_twice(tmp_path: Path) -> None:
    tell(tmp_path, s112="nap", s168="nap")
    sweeps = [start(tmp_path, "-m", "img_size=112,168") for _ in range(2)]
    ends = [finish(sweep) for sweep in sweeps]
    assert [status for status, _, _ in ends] == [0, 0]
    assert sorted(sizes(tmp_path)) == ["112", "168"]
    assert any("waiting: another process runs this point (process " in e for *_, e in ends)
    assert set(statuses(tmp_path).values()) == {COMPLETED}


@pytest.mark.slow
def test_two_sweeps_side_by_side_mix_nothing(tmp_path: Path) -> None:
    tell(tmp_path)
    sides = "img_size=112,168,224"
    sweeps = [start(tmp_path, "-m", sides, f"model={model}") for model in ("llava", "fuyu")]
    assert [finish(sweep)[0] for sweep in sweeps] == [0, 0]
    collection = read(tmp_path / "results")
    assert len(collection.records) == 6 and collection.problems == []
    for record in collection.records:
        assert record.config["model"]["name"] == record.summary["model"]
        assert record.fingerprint == record.folder.name


# The parent


def test_the_parent_waits_without_torch_and_without_burning_time(tmp_path: Path) -> None:
    tell(tmp_path, s112="hang")
    process = start(tmp_path, "img_size=112")
    await_that(lambda: bool(list_jobs(tmp_path)))
    parent = psutil.Process(process.pid)
    before = parent.cpu_times()
    begun = time.monotonic()
    time.sleep(1)
    after = parent.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    assert used_s < 0.2 * (time.monotonic() - begun)
    if sys.platform == "linux":
        maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
        assert "python" in maps and "libtorch" not in maps
    process.send_signal(signal.SIGINT)
    finish(process)


def test_neither_torch_nor_transformers_is_imported_by_what_the_parent_imports() -> None:
    script = "import sys, profiling.runs.sweep; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("swept", slow_except(["-m", ""], ""))
def test_a_reader_who_has_seen_enough_gets_no_traceback(swept: str, tmp_path: Path) -> None:
    tell(tmp_path)
    process = start(tmp_path, *swept.split(), "img_size=112", "dry=true")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 1


def test_a_sweep_whose_progress_nobody_reads_ends(tmp_path: Path) -> None:
    tell(tmp_path, s112="hang", s168="hang")
    process = start(tmp_path, "-m", "img_size=112,168")
    assert process.stdout is not None and process.stderr is not None
    process.stderr.close()
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert all(is_gone(pid) for pid, *_ in list_jobs(tmp_path))
    assert statuses(tmp_path) == {}


# With real models


REAL = ("profiler=quick", "num_samples=1", "max_new_tokens=4", "share_device=true")


def real(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROJECT / "main.py"), *arguments, *REAL],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_real_point_leaves_a_whole_record(tmp_path: Path) -> None:
    status, output, errors = finish(real(tmp_path))
    assert status == 0, errors
    assert "1 point: 1 completed (0 kept from before); 1 model loaded" in output
    (record,) = read(tmp_path / "results").records
    assert record.summary["latency_s"] > 0 and record.summary["wer"] is not None
    (answer,) = record.answers
    assert json.dumps(answer["answer"]) and answer["num_visual_tokens"] > 0
    assert set(record.readings["status"]) <= {"measured", "estimated", "derived", "unavailable"}
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def list_workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    return [child for child in children if "profiling.runs.child" in child.cmdline()]


@pytest.mark.slow
def test_a_real_sweep_loads_each_model_once(tmp_path: Path) -> None:
    status, output, errors = finish(
        real(tmp_path, "-m", "img_size=112,224", "batch_size=1,2", "model=llava,qwen25vl")
    )
    assert status == 0, errors
    assert "8 points: 8 completed (0 kept from before); 2 models loaded" in output
    assert finish(real(tmp_path, "img_size=112", "model=llava"))[0] == 0
    assert len(read(tmp_path / "results").records) == 8


@pytest.mark.slow
def test_a_real_worker_killed_in_mid_point(tmp_path: Path) -> None:
    process = real(tmp_path, "-m", "img_size=112,168,224", "profiler.time_budget_s=5")
    assert process.stderr is not None
    while not (process.stderr.readline().startswith("[2/3]") and list_workers(process)):
        assert process.poll() is None
    for child in list_workers(process):
        child.kill()
    status, _, errors = finish(process)
    assert status == 1 and "killed by signal 9 (SIGKILL)" in errors
    assert statuses(tmp_path) == {112: COMPLETED, 168: FAILED, 224: COMPLETED}


@pytest.mark.slow
def test_a_real_sweep_killed_in_mid_point_goes_on(tmp_path: Path) -> None:
    command = ("-m", "img_size=112,168")
    process = real(tmp_path, *command)
    await_that(lambda: len(read(tmp_path / "results").records) == 1, within_s=300)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    finish(process)
    await_that(lambda: all(is_gone(str(child.pid)) for child in children), within_s=10)
    first = (tmp_path / "results").glob("*/run.json")
    written = {path: path.stat().st_mtime_ns for path in first}
    status, output, errors = finish(real(tmp_path, *command))
    assert status == 0, errors
    assert "(1 kept from before)" in output
    assert all(path.stat().st_mtime_ns == moment for path, moment in written.items())
    assert statuses(tmp_path) == {112: COMPLETED, 168: COMPLETED}
