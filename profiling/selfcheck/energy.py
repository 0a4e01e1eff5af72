"""Compares the energy probe with counters of known joules, update period and wrap-around."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from profiling.probes.energy import EnergyProbe
from profiling.records import UNAVAILABLE, Reading
from profiling.selfcheck.finding import Finding, compare, judge
from profiling.selfcheck.simulated import (
    FakeNvml,
    FixedEstimate,
    Load,
    PhasedLoad,
    RaplTree,
    World,
    nvml_opener,
    rapl_opener,
)

TOLERANCE = 0.02
# A phase that is a difference has the errors of both sides.
PHASE_TOLERANCE = 0.03
PERIOD_S = 0.1
PASSES_S = (0.01, 0.37, 10.0)
# The counter wraps after the idle time and within the windows.
RANGE_UJ, LEFT_UJ = 30_000_000_000, 2_000_000_000


def check_counter(settings: Mapping[str, Any]) -> Iterator[Finding]:
    """A board's energy counter with ten updates per second, and short and long passes."""
    for pass_s in PASSES_S:
        world = World()
        load = Load(world=world, pass_s=pass_s)
        found = _measure(nvml_opener(FakeNvml(world=world, period_s=PERIOD_S)), load, settings)
        name = f"energy, counter, {pass_s:g} s a pass"
        yield _joules(f"{name}: energy_j", load.sample_j, found["energy_j"])
    idle_j = world.idle_w * load.pass_s / load.batch_size
    yield _joules(f"{name}: energy_net_j", load.sample_j - idle_j, found["energy_net_j"])
    yield compare(
        "energy, counter: update period",
        expected=PERIOD_S,
        found=found["energy_gpu_board_update_period_s"].value,
        unit="s",
        tolerance=TOLERANCE,
    )


def check_power(settings: Mapping[str, Any]) -> Iterator[Finding]:
    """A board without a counter, whose power reading covers a quarter of the time."""
    world = World()
    nvml = FakeNvml(world=world, period_s=PERIOD_S, has_energy=False)
    load = Load(world=world, pass_s=0.37)
    found = _measure(nvml_opener(nvml), load, settings)
    yield _joules("energy, integrated power: energy_j", load.sample_j, found["energy_j"])


def check_rapl(settings: Mapping[str, Any]) -> Iterator[Finding]:
    """A processor's counter that wraps within a window."""
    world = World()
    load = Load(world=world, pass_s=0.37, device_type="cpu")
    with TemporaryDirectory() as folder:
        tree = RaplTree(Path(folder), world, range_uj=RANGE_UJ, start_uj=RANGE_UJ - LEFT_UJ)
        found = _measure(rapl_opener(tree), load, settings)
    yield _joules("energy, RAPL over a wrap: energy_j", load.sample_j, found["energy_j"])
    spent_uj = world.joules_at(world.now) * 1e6
    assert spent_uj > LEFT_UJ, "the simulated counter never wrapped"


def check_phases(settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Joules by phase, from windows of one phase each."""
    world = World()
    load = PhasedLoad(world)
    opener = nvml_opener(FakeNvml(world=world, period_s=PERIOD_S))
    found = _measure(opener, load, settings, phases=True)
    for phase, joules in load.phases_j.items():
        yield _joules(
            f"energy by phase: {phase}_energy_j",
            joules,
            found[f"{phase}_energy_j"],
            tolerance=PHASE_TOLERANCE,
        )


def check_refusal(settings: Mapping[str, Any]) -> Iterator[Finding]:
    """A counter that does not move must give no number."""
    world = World()
    opener = nvml_opener(FakeNvml(world=world, period_s=1e9))
    energy = _measure(opener, Load(world=world, pass_s=0.37), settings)["energy_j"]
    yield judge(
        "energy, a counter that does not move",
        expected="no number",
        found="no number" if energy.value is None else f"{energy.value:.5g} J",
        right=energy.value is None and energy.status == UNAVAILABLE,
    )


def _measure(
    opener: Any, load: Load, settings: Mapping[str, Any], *, phases: bool = False
) -> dict[str, Reading]:
    simulated = {**settings, "phases": phases, "estimate_s": 0.0, "max_total_s": 1e4}
    probe = EnergyProbe(**simulated, open_instruments=opener, estimator=FixedEstimate)
    readings = probe.measure(load)  # type: ignore[arg-type]
    return {reading.metric: reading for reading in readings if reading.is_aggregate}


def _joules(check: str, known: float, reading: Reading, *, tolerance: float = TOLERANCE) -> Finding:
    return compare(
        check,
        expected=known,
        found=reading.value,
        unit="J",
        tolerance=tolerance,
        why=reading.source if reading.value is None else "",
    )
