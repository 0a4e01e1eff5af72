"""Kills commands at moments that a seed chooses, and looks at what they leave."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from profiling.files import digest_file
from profiling.records import BrokenRecord, read, read_record
from tests.composing import PROJECT
from tests.faking import DRIVER, FOLDER, RUN_MAIN, make_dataset, tell

# The least and the longest time after which a command is killed, in seconds.
Moments = tuple[float, float]
UNFINISHED = (".*.unfinished", ".merging-*", ".run.json.*")


@dataclass(kw_only=True)
class Toll:
    """What was seen over all kills."""

    kills: int = 0
    ended_before: int = 0
    torn_and_read: list[str] = field(default_factory=list)
    run_again: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.torn_and_read or self.run_again or self.left_over or self.broken)


def start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {FOLDER: str(folder), "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def kill_at(process: subprocess.Popen[bytes], moment_s: float, toll: Toll) -> None:
    """Kill a command with all its children, unless it ends before."""
    try:
        process.communicate(timeout=moment_s)
        toll.ended_before += 1
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        toll.kills += 1


def end(process: subprocess.Popen[bytes], toll: Toll, *, statuses: tuple[int, ...] = (0,)) -> None:
    """Let a command end; anything but these statuses is written down with its last line."""
    _, errors = process.communicate(timeout=120)
    if process.returncode not in statuses or b"Traceback" in errors:
        toll.broken.append(f"{process.returncode}: {errors.decode(errors='replace')[-300:]}")


def finished(results: Path) -> dict[str, str]:
    """The records that are finished, each with the digest of its last file."""
    return {path.parent.name: digest_file(path) for path in results.glob("[!.]*/run.json")}


def check_records(results: Path, before: dict[str, str], toll: Toll) -> None:
    """Every record that was finished is as it was, and each that is read is whole."""
    now = finished(results)
    toll.run_again += [name for name, digest in before.items() if now.get(name) != digest]
    for folder in read(results).records:
        try:
            assert len(folder.answers) >= 0 and folder.readings is not None
        except BrokenRecord as problem:
            toll.torn_and_read.append(str(problem))
    for name in now:
        try:
            read_record(results / name)
        except BrokenRecord as problem:
            toll.torn_and_read.append(str(problem))


def check_left_over(folder: Path, toll: Toll) -> None:
    found = [path for pattern in UNFINISHED for path in folder.rglob(pattern)]
    toll.left_over += [str(path) for path in found]


def sweep_command(sizes: list[int]) -> list[str]:
    listed = ",".join(map(str, sizes))
    keys = [f"img_size={listed}", "dataset.folder=mine", "profiler=quick"]
    return [
        sys.executable,
        "-c",
        DRIVER % "" + RUN_MAIN,
        "-m",
        *keys,
        "num_samples=1",
        "share_device=true",
    ]


def kill_sweeps(folder: Path, *, count: int, seed: int) -> Toll:
    """Sweeps of four fast stand-in jobs, killed with their worker, and begun again."""
    toll, chance = Toll(), random.Random(seed)
    make_dataset(folder / "mine")
    tell(folder)
    sizes = list(range(56, 56 + 28 * 8, 28))
    whole = [*sweep_command(sizes[:4]), f"results_dir={folder / 'whole'}"]
    # Machines differ: what takes seconds on one has ended on another.
    lasts_s = _time(whole, folder, toll)
    for number in range(count):
        results = folder / f"results{number % 4}"
        command = [*sweep_command(chance.sample(sizes, 4)), f"results_dir={results}"]
        before = finished(results)
        kill_at(start(command, folder), chance.uniform(0.1, 0.9) * lasts_s, toll)
        check_records(results, before, toll)
        if number % 4 == 3 or number == count - 1:
            between = finished(results)
            end(start(command, folder), toll)
            check_records(results, between, toll)
            check_left_over(results, toll)
    return toll


def kill_workers(folder: Path, *, count: int, seed: int) -> Toll:
    """The child alone is killed amid a job: the point fails with the signal, and is run again."""
    toll, chance = Toll(), random.Random(seed)
    make_dataset(folder / "mine")
    for number in range(count):
        results = folder / f"results{number}"
        command = [*sweep_command([56, 84]), f"results_dir={results}"]
        how = chance.choice(["SIGKILL", "SIGSEGV", "SIGTERM"])
        tell(folder, s84=how)
        end(start(command, folder), toll, statuses=(1,))
        toll.kills += 1
        statuses = sorted(record.status for record in read(results).records)
        errors = [str(record.run["error"]) for record in read(results).records]
        if statuses != ["completed", "failed"] or not any(how in error for error in errors):
            toll.broken.append(f"{how}: {statuses} {errors}")
        before = {
            record.folder.name: digest_file(record.folder / "run.json")
            for record in read(results).records
            if record.status == "completed"
        }
        tell(folder)
        end(start(command, folder), toll)
        check_records(results, before, toll)
        check_left_over(results, toll)
    return toll


WRITER = """
import sys, time
from pathlib import Path
from profiling.records import MEASURED, Reading, write_record
row = Reading(phase="vision", metric="latency_s", value=1.0, unit="s", status=MEASURED, source="x")
for number in range(10_000):
    run = {"fingerprint": "f", "status": "completed", "config": {}, "machine": {}, "summary": {}}
    answers = [{"id": str(n), "answer": "a" * 200} for n in range(300)]
    folder = Path(sys.argv[1]) / f"f{number % 20}"
    write_record(folder, run=run, readings=[row] * 300, answers=answers)
"""


def kill_writers(folder: Path, *, count: int, seed: int) -> Toll:
    """The writer of records amid its work: whatever has its last file is whole."""
    toll, chance = Toll(), random.Random(seed)
    command = [sys.executable, "-c", WRITER, str(folder)]
    for _ in range(count):
        kill_at(start(command, folder), chance.uniform(0.3, 1.2), toll)
        check_records(folder, {}, toll)
    return toll


MAKER = """
import sys, time
from pathlib import Path
from profiling.parts.artifacts import make_once, replacing
def make(folder):
    for number in range(6):
        with replacing(folder / f"part{number}.bin") as unfinished:
            unfinished.write_bytes(bytes([number]) * 200_000)
        time.sleep(0.02)
made = make_once(Path(sys.argv[1]) / "graph", make)
assert [p.read_bytes() for p in sorted(made.iterdir())] == [bytes([n]) * 200_000 for n in range(6)]
"""


def kill_exports(folder: Path, *, count: int, seed: int) -> Toll:
    """A stand-in export into the cache; the next one finds a whole folder or makes it anew."""
    toll, chance = Toll(), random.Random(seed)
    command = [sys.executable, "-c", MAKER, str(folder)]
    # The first one also reads files that nobody has read before.
    for _ in range(2):
        _forget_graph(folder)
        whole_s = _time(command, folder, toll)
    for _ in range(count):
        _forget_graph(folder)
        kill_at(start(command, folder), chance.uniform(whole_s / 3, whole_s), toll)
        end(start(command, folder), toll)
        check_left_over(folder, toll)
    return toll


def _time(command: list[str], folder: Path, toll: Toll) -> float:
    """How long a command takes that is not killed."""
    began = time.monotonic()
    end(start(command, folder), toll)
    return time.monotonic() - began


def _forget_graph(folder: Path) -> None:
    for path in (folder / "graph", folder / ".graph.sha256.json"):
        path.rename(folder / "old") if path.exists() else None
        _discard(folder / "old")


def _discard(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            inner.unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def kill_merges(folder: Path, source: Path, *, count: int, seed: int) -> Toll:
    """Merges of many records; after the next merge every record has arrived, once."""
    toll, chance = Toll(), random.Random(seed)
    expected = set(finished(source))
    merge = [sys.executable, "-m", "profiling.merge"]
    for name in ("first", "whole"):
        whole_s = _time([*merge, str(folder / name), str(source)], folder, toll)
    for number in range(count):
        into = folder / f"all{number}"
        command = [*merge, str(into), str(source)]
        kill_at(start(command, folder), chance.uniform(whole_s / 4, whole_s), toll)
        before = finished(into)
        check_records(into, before, toll)
        end(start(command, folder), toll)
        check_records(into, before, toll)
        check_left_over(into, toll)
        if set(finished(into)) != expected:
            toll.broken.append(f"{len(finished(into))} of {len(expected)} arrived")
    return toll
