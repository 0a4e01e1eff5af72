"""The noise gate over made-up kernels, processes and boards."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from profiling.machine import noise
from profiling.machine.noise import (
    BoardLog,
    CpuTimes,
    NoiseGate,
    NoiseLimits,
    Snapshot,
    compare,
    read_cpu_times,
    read_pressure_s,
    read_queued_s,
)

LIMITS = NoiseLimits(
    max_load_per_core=1.5,
    max_foreign_share=0.1,
    max_steal_share=0.02,
    max_pressure_share=0.2,
    max_involuntary_switches_per_s=100,
    max_waiting_share=0.2,
    max_clock_drop=0.1,
    board_sample_s=0.001,
)
BEFORE = Snapshot(
    wall_s=100.0,
    process_s=50.0,
    cpu=CpuTimes(total_s=1000.0, busy_s=400.0, steal_s=5.0, own_s=60.0),
    queued_s={"1": 4.0},
    load=0.5,
    pressure_s=3.0,
    involuntary_switches=7,
)
# Ten seconds on four cores, this process on one of them all the time, nobody else.
AFTER = Snapshot(
    wall_s=110.0,
    process_s=60.0,
    cpu=CpuTimes(total_s=1040.0, busy_s=410.0, steal_s=5.0, own_s=70.0),
    queued_s={"1": 4.0},
    load=1.0,
    pressure_s=3.0,
    involuntary_switches=17,
)


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "_cores", lambda: 4)


def test_figures_of_a_quiet_stretch() -> None:
    assert compare(BEFORE, AFTER) == pytest.approx(
        {
            "load_per_core": 0.25,
            "involuntary_switches_per_s": 1.0,
            "waiting_share": 0.0,
            "foreign_share": 0.0,
            "steal_share": 0.0,
            "pressure_share": 0.0,
        }
    )


def gate_over(after: Snapshot, *, cpu_bound: bool = True) -> NoiseGate:
    gate = NoiseGate(limits=LIMITS, board=None, cpu_bound=cpu_bound)
    gate.figures = compare(BEFORE, after)
    return gate


def test_a_quiet_stretch_is_not_noisy() -> None:
    gate = gate_over(AFTER)
    assert (gate.noisy, gate.reason) == (False, None)


def changed_cpu(**changed: float) -> Snapshot:
    assert AFTER.cpu is not None
    return replace(AFTER, cpu=replace(AFTER.cpu, **changed))


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (changed_cpu(busy_s=415.0), "other processes used 12% of the CPU"),
        (changed_cpu(steal_s=6.0), "the hypervisor took 2.5% of the CPU away"),
        (replace(AFTER, pressure_s=6.0), "tasks waited for a core 30% of the time"),
        (
            replace(AFTER, involuntary_switches=2007),
            "200 involuntary context switches per CPU second",
        ),
        (replace(AFTER, load=8.0), "load average of 2.00 per core"),
        (replace(AFTER, process_s=55.0), "the process waited for a core 50% of the time"),
        # One thread got a core for 10 s and waited for 5; another began, and waited for 5.
        (
            replace(AFTER, queued_s={"1": 9.0, "2": 5.0}),
            "the process waited for a core 50% of the time",
        ),
    ],
)
def test_each_kind_of_noise_is_named(after: Snapshot, reason: str) -> None:
    gate = gate_over(after)
    assert gate.noisy
    assert gate.reason == reason


def test_16_threads_that_each_get_40_percent_of_a_core_are_noticed() -> None:
    before = replace(BEFORE, queued_s={str(thread): 1.0 for thread in range(16)})
    after = replace(
        AFTER, process_s=50.0 + 16 * 4.0, queued_s={str(thread): 7.0 for thread in range(16)}
    )
    assert compare(before, after)["waiting_share"] == pytest.approx(0.6)


def test_switches_are_counted_per_cpu_second_of_all_threads() -> None:
    after = replace(AFTER, process_s=50.0 + 16 * 10.0, involuntary_switches=7 + 1600)
    assert compare(BEFORE, after)["involuntary_switches_per_s"] == pytest.approx(10.0)


def test_a_thread_that_ended_does_not_count() -> None:
    after = replace(AFTER, queued_s={"2": 0.0})
    assert compare(BEFORE, after)["waiting_share"] == 0.0


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_kernel_that_does_not_count_waiting_leaves_the_cpu_time(side: str) -> None:
    before, after = BEFORE, replace(AFTER, process_s=57.0)
    if side == "before":
        before = replace(before, queued_s=None)
    else:
        after = replace(after, queued_s=None)
    assert compare(before, after)["waiting_share"] == pytest.approx(0.3)


def test_waiting_of_every_thread_is_read(tmp_path: Path) -> None:
    for thread, text in {"7": "5 2500000000 3", "8": "1 0 1", "9": "torn"}.items():
        (tmp_path / "self/task" / thread).mkdir(parents=True)
        (tmp_path / "self/task" / thread / "schedstat").write_text(text + "\n")
    # A thread that ended after it was listed.
    (tmp_path / "self/task/10").mkdir()
    assert read_queued_s(tmp_path) == {"7": 2.5, "8": 0.0}
    assert read_queued_s(tmp_path / "nowhere") is None


def test_waiting_for_a_gpu_is_not_noise() -> None:
    gate = gate_over(replace(AFTER, process_s=51.0), cpu_bound=False)
    assert gate.reason is None


def test_all_reasons_stand_in_one_line() -> None:
    gate = gate_over(replace(changed_cpu(busy_s=430.0), load=8.0))
    assert gate.reason == "other processes used 50% of the CPU; load average of 2.00 per core"


def test_a_stretch_shorter_than_a_tick_gives_no_shares() -> None:
    assert "foreign_share" not in compare(BEFORE, replace(AFTER, cpu=BEFORE.cpu))


def test_a_kernel_without_pressure_gives_no_figure() -> None:
    assert "pressure_share" not in compare(BEFORE, replace(AFTER, pressure_s=None))


def test_a_system_that_is_not_linux_gives_what_it_has(tmp_path: Path) -> None:
    limits = replace(LIMITS, max_load_per_core=1e9, max_waiting_share=1.0)
    with NoiseGate(limits=limits, board=None, cpu_bound=True, proc=tmp_path) as gate:
        time.sleep(0.01)
    assert set(gate.figures) == {"load_per_core", "involuntary_switches_per_s", "waiting_share"}


def test_kernel_files_are_read(tmp_path: Path) -> None:
    per_s = os.sysconf("SC_CLK_TCK")
    ticks = [1, 2, 3, 10, 4, 5, 6, 7, 99, 99]
    line = " ".join(str(tick * per_s) for tick in ticks)
    (tmp_path / "stat").write_text(f"cpu  {line}\ncpu0 {line}\n")
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure/cpu").write_text(
        "some avg10=1.00 avg60=1.00 avg300=1.00 total=2500000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n"
    )
    times = read_cpu_times(tmp_path)
    assert times is not None
    # Guest time, the last two, is part of user time.
    assert (times.total_s, times.busy_s, times.steal_s) == (38.0, 17.0, 7.0)
    assert read_pressure_s(tmp_path) == 2.5
    assert read_pressure_s(tmp_path / "nowhere") is None


# GPU


@dataclass
class FakeBoard:
    clocks_hz: list[float] = field(default_factory=lambda: [1.5e9])
    throttling: tuple[str, ...] = ()
    processes: int = 1
    looks: int = 0

    def read_clock_hz(self) -> float:
        self.looks += 1
        return self.clocks_hz[min(self.looks, len(self.clocks_hz)) - 1]

    def find_throttling(self) -> tuple[str, ...]:
        return self.throttling

    def count_processes(self) -> int:
        return self.processes


def watch(board: FakeBoard) -> NoiseGate:
    generous = {name: 1e9 for name in LIMITS.__dataclass_fields__ if name.startswith("max_")}
    limits = replace(LIMITS, **(generous | {"max_clock_drop": 0.1}))
    with NoiseGate(limits=limits, board=board, cpu_bound=False) as gate:
        while board.looks < 5:
            time.sleep(0.001)
    return gate


def test_a_steady_board_is_quiet() -> None:
    gate = watch(FakeBoard())
    assert gate.reason is None
    clocks = {r.metric: r.value for r in gate.readings() if r.unit == "Hz"}
    assert clocks == {"noise_gpu_clock_hz": 1.5e9, "noise_gpu_clock_min_hz": 1.5e9}


@pytest.mark.parametrize(
    ("board", "reason"),
    [
        (FakeBoard(throttling=("hardware slowdown",)), "slowed itself down (hardware slowdown)"),
        (FakeBoard(clocks_hz=[1.5e9, 1.5e9, 0.9e9, 1.5e9]), "clock fell by 40%"),
        (FakeBoard(processes=2), "2 processes on the GPU"),
    ],
)
def test_a_board_that_is_disturbed_is_named(board: FakeBoard, reason: str) -> None:
    found = watch(board).reason
    assert found is not None
    assert reason in found


def test_a_board_that_was_never_sampled_has_not_dropped() -> None:
    assert BoardLog().clock_drop() == 0.0


def test_readings_carry_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = gate_over(AFTER)
    found: dict[str, Any] = {r.metric: r for r in gate.readings()}
    assert set(found) == {f"noise_{name}" for name in gate.figures}
    assert found["noise_involuntary_switches_per_s"].unit == "1/s"


def test_the_gate_reads_this_machine() -> None:
    with NoiseGate(limits=LIMITS, board=None, cpu_bound=True) as gate:
        ended = time.perf_counter() + 0.05
        while time.perf_counter() < ended:
            pass
    assert set(gate.figures) >= {"load_per_core", "waiting_share", "involuntary_switches_per_s"}
    assert all(value >= 0 for value in gate.figures.values())
