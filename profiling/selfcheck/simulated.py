"""A simulated machine: a clock, a power curve, and its energy counters."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profiling.engines.engine import Footprint
from profiling.errors import Unsupported
from profiling.machine.clock import Time
from profiling.machine.nvml import Board, PowerIntegral
from profiling.probes.codecarbon_estimate import ModelledEnergy
from profiling.probes.instruments import Instruments, cpu_instruments, gpu_instruments

IDLE_W = 70.0
# The time of a clock reading; without it, waiting for a counter would never end.
GLANCE_S = 2e-4
# The thread that samples power uses real time, so it has to sleep in a simulation.
NEVER_S = 1e6


@dataclass
class World:
    """Time passes only by clock readings, sleeps and work; all energy is known."""

    now: float = 0.0
    idle_w: float = IDLE_W
    times: list[float] = field(default_factory=lambda: [0.0])
    joules: list[float] = field(default_factory=lambda: [0.0])
    # Called whenever time moves, and before each clock reading.
    watchers: list[Callable[[], object]] = field(default_factory=list)
    onlookers: list[Callable[[], object]] = field(default_factory=list)
    step_s: float = 0.01

    def now_s(self) -> float:
        self.spend(GLANCE_S, self.idle_w)
        for look in self.onlookers:
            look()
        return self.now

    def sleep(self, seconds: float) -> None:
        self.spend(seconds, self.idle_w)

    @property
    def time(self) -> Time:
        return Time(now_s=self.now_s, sleep=self.sleep)

    def spend(self, seconds: float, watts: float) -> None:
        while seconds > 0:
            step = min(seconds, self.step_s) if self.watchers else seconds
            self._move(step, watts)
            seconds -= step

    def _move(self, seconds: float, watts: float) -> None:
        self.now += seconds
        self.times.append(self.now)
        self.joules.append(self.joules[-1] + seconds * watts)
        for watch in self.watchers:
            watch()

    def joules_at(self, moment: float) -> float:
        """Joules spent from the start to any past moment."""
        if moment <= 0:
            return 0.0
        i = min(bisect_right(self.times, moment), len(self.times) - 1)
        share = (moment - self.times[i - 1]) / (self.times[i] - self.times[i - 1] or 1)
        return self.joules[i - 1] + min(share, 1) * (self.joules[i] - self.joules[i - 1])

    def last_update(self, period_s: float) -> float:
        return int(self.now / period_s + 1e-9) * period_s


class SimulatedEngine:
    """What the energy probe asks of an engine, for work that is spent in a world."""

    def __init__(self, *, device_type: str, vision: Callable[[], None] | None) -> None:
        self.device_type = device_type
        self.vision = vision

    def begin_pass(self) -> None: ...

    def synchronize(self) -> None: ...

    def replay(self, part: str, run: Callable[[], None]) -> Callable[[], None]:
        run()
        if part != "vision" or self.vision is None:
            raise Unsupported(f"this simulated engine has no {part} part")
        return self.vision

    def footprint(self) -> Footprint:
        on_gpu = self.device_type == "cuda"
        return Footprint(
            pids=(),
            device="cuda:0" if on_gpu else self.device_type,
            gpu_uuid="GPU-0" if on_gpu else None,
            dtype=None,
            computes_in=None,
            model_bytes=None,
            accelerator=None,
        )


@dataclass
class Load:
    """A pass of a workload with a high-power and a low-power section."""

    world: World
    pass_s: float
    high_w: float = 400.0
    low_w: float = 150.0
    high_share: float = 0.4
    batch_size: int = 4
    device_type: str = "cuda"
    passes: int = 0

    def __post_init__(self) -> None:
        self.engine = SimulatedEngine(device_type=self.device_type, vision=None)
        self.batches: list[tuple[()]] = [()]

    @property
    def sample_j(self) -> float:
        """The known answer: gross joules per sample."""
        high_s = self.pass_s * self.high_share
        return (high_s * self.high_w + (self.pass_s - high_s) * self.low_w) / self.batch_size

    def run(self, index: int, *, max_new_tokens: int | None = None) -> None:
        high_s = self.pass_s * self.high_share
        self.world.spend(high_s, self.high_w)
        self.world.spend(self.pass_s - high_s, self.low_w)
        self.passes += 1


class NVMLError(Exception):
    pass


class NotSupported(NVMLError):
    pass


class NotFound(NVMLError):
    pass


@dataclass
class FakeNvml:
    """The functions of NVML that the probe uses, for a simulated world."""

    world: World
    period_s: float
    has_energy: bool = True
    has_power: bool = True
    is_cut: bool = False
    duty: float = 0.25
    throttling: int = 0

    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupported
    NVMLError_NotFound = NotFound
    NVML_DEVICE_MIG_ENABLE = 1
    NVML_CLOCK_SM = 1
    nvmlClocksEventReasonHwSlowdown = 8
    nvmlClocksEventReasonHwThermalSlowdown = 64
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 128
    nvmlClocksEventReasonSwThermalSlowdown = 32

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != "GPU-0":
            raise NotFound
        return uuid

    def nvmlDeviceGetName(self, handle: str) -> str:
        return "Simulated Board"

    def nvmlDeviceGetMigMode(self, handle: str) -> tuple[int, int]:
        return int(self.is_cut), int(self.is_cut)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        return self.throttling

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if not self.has_energy:
            raise NotSupported
        return int(self.world.joules_at(self.world.last_update(self.period_s)) * 1e3)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        """The mean over the last part of each period; the rest is never sampled."""
        if not self.has_power:
            raise NotSupported
        seen_s = self.period_s * self.duty
        updated = self.world.last_update(self.period_s)
        spent = self.world.joules_at(updated) - self.world.joules_at(updated - seen_s)
        return int(spent / seen_s * 1e3)


def nvml_opener(nvml: FakeNvml) -> Callable[..., Any]:
    """Replaces `open_instruments`: power is sampled as simulated time moves."""

    @contextmanager
    def open_instruments(device: Any, *, power_sample_s: float) -> Iterator[Instruments]:
        board = Board(nvml=nvml, uuid="GPU-0")
        nowhere = Path("/nonexistent")
        opened = gpu_instruments(
            board, power_sample_s=NEVER_S, powercap=nowhere, time=nvml.world.time
        )
        nvml.world.step_s = power_sample_s
        with opened as instruments, ExitStack() as stack:
            for counter in instruments.counters.values():
                if isinstance(counter, PowerIntegral):
                    stack.enter_context(watched(counter))
            yield instruments

    return open_instruments


@contextmanager
def watched(integral: PowerIntegral) -> Iterator[PowerIntegral]:
    """Sample power whenever simulated time has moved."""
    world: World = integral.time.now_s.__self__  # type: ignore[attr-defined]
    # The integral's own clock reading must not trigger another one.
    integral.time = Time(now_s=lambda: world.now, sleep=world.sleep)
    world.watchers.append(integral.advance)
    try:
        yield integral
    finally:
        world.watchers.remove(integral.advance)


@dataclass
class RaplTree:
    """A powercap folder whose package counter follows a world and wraps at its range."""

    root: Path
    world: World
    range_uj: int
    start_uj: int
    period_s: float = 1e-3
    packages: int = 1

    def __post_init__(self) -> None:
        self.folders = [self.root / f"intel-rapl:{n}" for n in range(self.packages)]
        for number, folder in enumerate(self.folders):
            folder.mkdir(parents=True)
            (folder / "name").write_text(f"package-{number}\n")
            (folder / "max_energy_range_uj").write_text(f"{self.range_uj}\n")
        self.written = -1.0
        self.write()
        self.world.onlookers.append(self.write)

    def write(self) -> None:
        moment = self.world.last_update(self.period_s)
        if moment == self.written:
            return
        self.written = moment
        share_uj = int(self.world.joules_at(moment) * 1e6) // self.packages
        for folder in self.folders:
            (folder / "energy_uj").write_text(f"{(self.start_uj + share_uj) % self.range_uj}\n")


def rapl_opener(tree: RaplTree) -> Callable[..., Any]:
    @contextmanager
    def open_instruments(device: Any, *, power_sample_s: float) -> Iterator[Instruments]:
        yield cpu_instruments(tree.root, tree.world.time)

    return open_instruments


class FixedEstimate:
    """An estimator with a fixed result."""

    def __init__(self, device: Any) -> None: ...

    def measure(self, work: Callable[[], None]) -> ModelledEnergy:
        work()
        return ModelledEnergy(cpu_j=1.0, ram_j=1.0, gpu_j=None, source="fixed")


class PhasedLoad(Load):
    """A pass of vision 0.1 s at 300 W, prefill 0.2 s at 400 W, then 0.02 s a token at 150 W."""

    TOKENS = 11

    def __init__(self, world: World) -> None:
        super().__init__(world=world, pass_s=0.5)
        self.engine = SimulatedEngine(device_type=self.device_type, vision=self._see)

    @property
    def phases_j(self) -> dict[str, float]:
        """The known answers: joules per sample of each phase."""
        spent = {"vision": 0.1 * 300, "prefill": 0.2 * 400, "decode": 0.2 * 150}
        return {phase: joules / self.batch_size for phase, joules in spent.items()}

    def _see(self) -> None:
        self.world.spend(0.1, 300.0)

    def run(self, index: int, *, max_new_tokens: int | None = None) -> None:
        self._see()
        self.world.spend(0.2, 400.0)
        self.world.spend(0.02 * ((max_new_tokens or self.TOKENS) - 1), 150.0)
