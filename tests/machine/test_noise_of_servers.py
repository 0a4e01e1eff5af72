"""The CPU time of a server that is measured is not that of others."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from profiling.machine.noise import NoiseGate, NoiseLimits, read_process_s
from tests.composing import compose_point

BUSY = "import time\nprint('on', flush=True)\nwhile True: pass"


def write_stat(proc: Path, pid: int, name: str, user: int, system: int) -> None:
    (proc / str(pid)).mkdir(parents=True, exist_ok=True)
    fields = ["S", *["0"] * 10, str(user), str(system), *["0"] * 30]
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n", encoding="utf-8")


def write_cpu(proc: Path, busy: int, idle: int) -> None:
    (proc / "stat").write_text(f"cpu {busy} 0 0 {idle} 0 0 0 0 0 0\n", encoding="utf-8")


@pytest.mark.parametrize("name", ["python", "a b", "odd) name (", "x"])
def test_the_time_of_a_process_is_read(tmp_path: Path, name: str) -> None:
    write_stat(tmp_path, 7, name, 150, 50)
    assert read_process_s(tmp_path, 7) == 200 / os.sysconf("SC_CLK_TCK")
    assert read_process_s(tmp_path, 8) == 0


def gate(proc: Path, *pids: int) -> NoiseGate:
    limits = NoiseLimits(**compose_point("profiler=quick").profiler["noise"])
    return NoiseGate(
        limits=limits,
        board=None,
        cpu_bound=True,
        pids=pids,
        proc=proc,
        now_s=iter((0, 10)).__next__,
    )


@pytest.mark.parametrize(("pids", "foreign"), [((), 0.4), ((7,), 0.1), ((7, os.getpid()), 0.1)])
def test_a_server_is_not_foreign(tmp_path: Path, pids: tuple[int, ...], foreign: float) -> None:
    """Of 2,000 ticks, 800 are busy: 600 of them are the server's."""
    write_cpu(tmp_path, 0, 0)
    write_stat(tmp_path, 7, "server", 100, 0)
    watched = gate(tmp_path, *pids)
    with watched:
        write_cpu(tmp_path, 800, 1200)
        write_stat(tmp_path, 7, "server", 600, 100)
    assert watched.figures["foreign_share"] == pytest.approx(foreign, abs=0.02)
    waiting = 1 - (0.6 if 7 in pids else 0)
    assert watched.figures["waiting_share"] == pytest.approx(waiting, abs=0.05)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system has no /proc")
def test_a_busy_process_is_counted_as_own() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = read_process_s(Path("/proc"), process.pid)
        deadline = time.monotonic() + 30
        while read_process_s(Path("/proc"), process.pid) < before + 0.05:
            assert time.monotonic() < deadline
        process.kill()


def write_queued(proc: Path, process: str, seconds: float) -> None:
    """What 16 threads of a process have waited for a core, each."""
    for thread in range(16):
        folder = proc / process / "task" / f"{process}{thread}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "schedstat").write_text(f"0 {int(seconds * 1e9)} 1\n", encoding="utf-8")


def test_threads_of_a_server_that_wait_for_a_core_are_noticed(tmp_path: Path) -> None:
    """Each of 16 threads gets 40% of a core: CPU time beyond wall time, on a busy machine."""
    per_s = os.sysconf("SC_CLK_TCK")
    write_cpu(tmp_path, 0, 0)
    write_stat(tmp_path, 7, "server", 0, 0)
    write_queued(tmp_path, "self", 0.0)
    write_queued(tmp_path, "7", 1.0)
    watched = gate(tmp_path, 7)
    with watched:
        write_cpu(tmp_path, 64 * per_s, 96 * per_s)
        write_stat(tmp_path, 7, "server", 64 * per_s, 0)
        write_queued(tmp_path, "7", 7.0)
    assert watched.figures["waiting_share"] == pytest.approx(0.6, abs=0.05)
    assert "waited for a core 60% of the time" in str(watched.reason)
