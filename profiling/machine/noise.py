"""Noise gate: whether others used the machine, or the GPU throttled, during a measurement."""

from __future__ import annotations

import os
import re
import resource
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Protocol, Self, TypeVar

from profiling.machine.nvml import NotTold
from profiling.records import MEASURED, Reading, reading, unavailable

PROC = Path("/proc")
# Time is counted in ticks of 10 ms: a share of fewer than these is off by over a twentieth.
LEAST_TICKS = 40
# In a shorter stretch a few switches would make a high rate.
LEAST_RATED_S = 0.5
_TOO_SHORT = "the measurement was over before the first look at the board"
Told = TypeVar("Told")


class Board(Protocol):
    """What the gate asks of a GPU."""

    def read_clock_hz(self) -> float: ...
    def find_throttling(self) -> tuple[str, ...]: ...
    def count_processes(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class NoiseLimits:
    """Above these a measurement is called noisy. Shares are of all cores' time, 0 to 1."""

    max_load_per_core: float
    max_foreign_share: float
    max_steal_share: float
    max_pressure_share: float
    max_involuntary_switches_per_s: float
    max_waiting_share: float
    max_clock_drop: float
    board_sample_s: float


@dataclass(frozen=True, kw_only=True)
class CpuTimes:
    """Seconds of all cores together since boot, and of this process with its children."""

    total_s: float
    busy_s: float
    steal_s: float
    own_s: float


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    wall_s: float
    process_s: float
    cpu: CpuTimes | None
    queued_s: Mapping[str, float] | None
    load: float
    pressure_s: float | None
    involuntary_switches: int


@dataclass(kw_only=True)
class BoardLog:
    """Clocks, throttling and processes of a GPU before, during and after a measurement.

    `missing` has the reason for each of the three that the board does not tell, and `failure` what
    ended the watch early.
    """

    clocks_hz: list[float] = field(default_factory=list)
    throttling: set[str] = field(default_factory=set)
    processes: int = 0
    looks: int = 0
    throttled_looks: int = 0
    missing: dict[str, str] = field(default_factory=dict)
    failure: str | None = None

    def look(self, board: Board) -> None:
        nothing: tuple[str, ...] = ()
        found = self._ask("throttling", board.find_throttling, nothing)
        self.looks += 1
        self.throttled_looks += bool(found)
        self.throttling.update(found)
        self.processes = max(self.processes, self._ask("processes", board.count_processes, 0))

    def look_at_clock(self, board: Board) -> None:
        clock_hz = self._ask("clock", board.read_clock_hz, None)
        if clock_hz is not None:
            self.clocks_hz.append(clock_hz)

    def _ask(self, what: str, ask: Callable[[], Told], untold: Told) -> Told:
        try:
            return ask()
        except NotTold as reason:
            self.missing[what] = str(reason)
            return untold

    def clock_drop(self) -> float:
        """How far the lowest clock is below the median one, 0 to 1."""
        return 1 - min(self.clocks_hz) / median(self.clocks_hz) if self.clocks_hz else 0.0


class NoiseGate:
    """A context around a measurement; afterwards `noisy` and `reason` say whether to trust it.

    `cpu_bound` says that the CPU does all the work: then wall time without CPU time is time in
    which another process had the core. `idles` says that the measurement pauses on purpose, so that
    neither time without work nor the clock of an idle GPU is a sign of anything. The CPU time of
    the processes `pids` counts as this one's.
    """

    def __init__(
        self,
        *,
        limits: NoiseLimits,
        board: Board | None,
        cpu_bound: bool,
        idles: bool = False,
        pids: Sequence[int] = (),
        proc: Path = PROC,
        now_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.limits = limits
        self.board = board
        self.cpu_bound = cpu_bound
        self.idles = idles
        self.pids = [pid for pid in pids if pid != os.getpid()]
        self.proc = proc
        self.now_s = now_s
        self.log = BoardLog()
        self.figures: dict[str, float] = {}
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._before = self._snapshot()
        if self.board is not None:
            self._look(self.board)
            self._thread = threading.Thread(target=self._watch, name="noise gate", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *ended: object) -> None:
        if self.board is not None:
            self._stop.set()
            self._thread.join()
            self._look(self.board)
        self.figures = compare(self._before, self._snapshot(), idles=self.idles)

    def _watch(self) -> None:
        assert self.board is not None
        while self.log.failure is None and not self._stop.wait(self.limits.board_sample_s):
            self._look(self.board, clock=True)

    def _look(self, board: Board, *, clock: bool = False) -> None:
        """What fails in looking must not end the measurement, and is told afterwards."""
        try:
            self.log.look(board)
            if clock:
                self.log.look_at_clock(board)
        except Exception as error:  # an error of any kind would end the thread unseen
            self.log.failure = " ".join(f"{type(error).__name__}: {error}".split())

    def _snapshot(self) -> Snapshot:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        others_s = sum(read_process_s(self.proc, pid) for pid in self.pids)
        return Snapshot(
            wall_s=self.now_s(),
            process_s=time.process_time() + others_s,
            cpu=read_cpu_times(self.proc, others_s=others_s),
            queued_s=self._read_queued_s(),
            load=os.getloadavg()[0],
            pressure_s=read_pressure_s(self.proc),
            involuntary_switches=usage.ru_nivcsw,
        )

    def _read_queued_s(self) -> dict[str, float] | None:
        """Of the threads of this process and of the others that work for the engine."""
        own = read_queued_s(self.proc)
        if own is None:
            return None
        for pid in self.pids:
            others = read_queued_s(self.proc, str(pid)) or {}
            own |= {f"{pid}/{thread}": seconds for thread, seconds in others.items()}
        return own

    @property
    def noisy(self) -> bool:
        return self.reason is not None

    @property
    def reason(self) -> str | None:
        """All that was found, in one line; None on a quiet machine."""
        found = [*self._cpu_reasons(), *self._board_reasons()]
        return "; ".join(found) or None

    def _cpu_reasons(self) -> Iterator[str]:
        limits, figures = self.limits, self.figures
        checks = {
            "foreign_share": (limits.max_foreign_share, "other processes used {:.0%} of the CPU"),
            "steal_share": (limits.max_steal_share, "the hypervisor took {:.1%} of the CPU away"),
            "pressure_share": (
                limits.max_pressure_share,
                "tasks waited for a core {:.0%} of the time",
            ),
            "involuntary_switches_per_s": (
                limits.max_involuntary_switches_per_s,
                "{:.0f} involuntary context switches per CPU second",
            ),
            "load_per_core": (limits.max_load_per_core, "load average of {:.2f} per core"),
        }
        if self.cpu_bound:
            words = "the process waited for a core {:.0%} of the time"
            checks["waiting_share"] = (limits.max_waiting_share, words)
        for name, (limit, words) in checks.items():
            value = figures.get(name)
            if value is not None and value > limit:
                yield words.format(value)

    def _board_reasons(self) -> Iterator[str]:
        if self.log.failure is not None:
            yield f"the GPU was not watched to the end ({self.log.failure})"
        if self.log.throttling:
            yield f"the GPU slowed itself down ({', '.join(sorted(self.log.throttling))})"
        if not self.idles and self.log.clock_drop() > self.limits.max_clock_drop:
            yield f"the GPU's clock fell by {self.log.clock_drop():.0%}"
        if self.log.processes > 1:
            yield f"{self.log.processes} processes on the GPU"

    def readings(self) -> Iterator[Reading]:
        return describe_noise({"": self})


class Watch(Protocol):
    """What is told of a measurement that was watched, or of one that was not."""

    @property
    def figures(self) -> Mapping[str, float]: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def board(self) -> Board | None: ...
    @property
    def idles(self) -> bool: ...
    @property
    def log(self) -> BoardLog: ...


def find_noise(gates: Mapping[str, Watch]) -> str | None:
    """What was found while each probe measured, in one line; None on a quiet machine."""
    found = [f"{name}: {gate.reason}" for name, gate in gates.items() if gate.reason]
    return "; ".join(found) or None


def describe_noise(gates: Mapping[str, Watch]) -> Iterator[Reading]:
    """The highest of each figure, whatever was measured, and what the board told meanwhile."""
    highest: dict[str, tuple[float, str]] = {}
    for name, gate in gates.items():
        for figure, value in gate.figures.items():
            highest[figure] = max(highest.get(figure, (value, name)), (value, name))
    for figure, (value, name) in highest.items():
        source = "kernel counters before and after" + (f" measuring {name}" if name else "")
        yield reading(f"noise_{figure}", value=value, status=MEASURED, source=source)
    watched = [gate for gate in gates.values() if gate.board is not None or gate.log.clocks_hz]
    logs = [(gate.log, gate.idles) for gate in watched]
    if logs:
        working = [log.clocks_hz for log, idles in logs if not idles]
        clocks_hz = [clock_hz for clocks in working for clock_hz in clocks]
        yield from _board_readings([log for log, _ in logs], clocks_hz)


def _board_readings(logs: Sequence[BoardLog], clocks_hz: Sequence[float]) -> Iterator[Reading]:
    """Figures of the board, or why it does not tell them."""
    row = partial(reading, status=MEASURED, source="NVML while measuring")
    missing = {name: why for log in logs for name, why in log.missing.items()}
    failure = next((log.failure for log in logs if log.failure), None)
    if clocks_hz:
        yield row(metric="noise_gpu_clock_hz", value=median(clocks_hz))
        yield row(metric="noise_gpu_clock_min_hz", value=min(clocks_hz))
    else:
        reason = missing.get("clock", failure or _TOO_SHORT)
        yield unavailable("noise_gpu_clock_hz", reason)
        yield unavailable("noise_gpu_clock_min_hz", reason)
    looks = sum(log.looks for log in logs)
    if "throttling" in missing or not looks:
        reason = missing.get("throttling", failure or _TOO_SHORT)
        yield unavailable("noise_gpu_throttled_share", reason)
    else:
        share = sum(log.throttled_looks for log in logs) / looks
        yield row(metric="noise_gpu_throttled_share", value=share)


def compare(before: Snapshot, after: Snapshot, *, idles: bool = False) -> dict[str, float]:
    """Figures of the time between two snapshots; one that the kernel does not give is absent."""
    wall_s = after.wall_s - before.wall_s
    process_s = after.process_s - before.process_s
    switches = after.involuntary_switches - before.involuntary_switches
    off_share = 0.0 if idles else max(0.0, 1 - process_s / wall_s)
    figures = {
        "load_per_core": max(before.load, after.load) / _cores(),
        # Many threads together are switched more often: CPU time is that of all of them.
        "involuntary_switches_per_s": switches / max(wall_s, process_s, LEAST_RATED_S),
        "waiting_share": max(off_share, _queued_share(before, after)),
    }
    if before.cpu is not None and after.cpu is not None:
        figures |= compare_cpu(before.cpu, after.cpu)
    if before.pressure_s is not None and after.pressure_s is not None:
        figures["pressure_share"] = (after.pressure_s - before.pressure_s) / wall_s
    return figures


def _queued_share(before: Snapshot, after: Snapshot) -> float:
    """The share of the time in which threads could have run, and waited for a core instead.

    CPU time over wall time shows this for one thread only: 16 threads that each have 40% of a
    core use more CPU time than wall time.
    """
    if before.queued_s is None or after.queued_s is None:
        return 0.0
    process_s = after.process_s - before.process_s
    queued_s = sum(
        seconds - before.queued_s.get(thread, 0.0) for thread, seconds in after.queued_s.items()
    )
    return queued_s / (queued_s + process_s) if queued_s > 0 else 0.0


def compare_cpu(before: CpuTimes, after: CpuTimes) -> dict[str, float]:
    """Shares of all cores' time that others used; none for a time of a few kernel ticks."""
    total_s = after.total_s - before.total_s
    if total_s < LEAST_TICKS / os.sysconf("SC_CLK_TCK"):
        return {}
    foreign_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    return {
        "foreign_share": max(0.0, foreign_s / total_s),
        "steal_share": (after.steal_s - before.steal_s) / total_s,
    }


def _cores() -> int:
    return os.cpu_count() or 1


def read_cpu_times(proc: Path, *, others_s: float = 0.0) -> CpuTimes | None:
    """Times of all cores together; None where the system is not Linux."""
    try:
        line = (proc / "stat").read_text(encoding="ascii").splitlines()[0]
    except FileNotFoundError:
        return None
    ticks = [int(part) for part in line.split()[1:]]
    per_s = os.sysconf("SC_CLK_TCK")
    # user nice system idle iowait irq softirq steal; guest time is in user already.
    idle, steal = ticks[3] + ticks[4], ticks[7]
    total = sum(ticks[:8])
    own = os.times()
    return CpuTimes(
        total_s=total / per_s,
        busy_s=(total - idle - steal) / per_s,
        steal_s=steal / per_s,
        own_s=own.user + own.system + own.children_user + own.children_system + others_s,
    )


def read_process_s(proc: Path, pid: int) -> float:
    """CPU seconds of a process so far; 0 where there is none."""
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    # The name of the program stands in brackets and may hold blanks.
    fields = text.rpartition(")")[2].split()
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")


def read_pressure_s(proc: Path) -> float | None:
    """Seconds since boot in which some task waited for a core; None where it is not counted."""
    try:
        text = (proc / "pressure/cpu").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^some .*total=(\d+)$", text, flags=re.MULTILINE)
    return int(found.group(1)) / 1e6 if found else None


def read_queued_s(proc: Path, process: str = "self") -> dict[str, float] | None:
    """Seconds that each thread of a process has waited for a core; None where not counted."""
    try:
        threads = list((proc / process / "task").iterdir())
    except OSError:
        return None
    # A thread may end between being listed and being read.
    counted = {folder.name: _read_run_delay_s(folder) for folder in threads}
    return {thread: delay for thread, delay in counted.items() if delay is not None} or None


def _read_run_delay_s(folder: Path) -> float | None:
    try:
        _, delay_ns, _ = (folder / "schedstat").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return int(delay_ns) * 1e-9
