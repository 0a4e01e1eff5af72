"""The energy probe against simulated counters whose joules are known."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.engines.transformers.cuda_memory import cuda_uuid
from profiling.errors import ConfigError
from profiling.machine.clock import Time
from profiling.machine.nvml import (
    NO_BOARD,
    Board,
    EnergyCounter,
    PowerIntegral,
    find_board,
)
from profiling.machine.rapl import Zone, open_rapl
from profiling.probes import codecarbon_estimate
from profiling.probes import instruments as instruments_module
from profiling.probes.codecarbon_estimate import CodeCarbonEstimate
from profiling.probes.energy import ELSEWHERE, EnergyProbe
from profiling.probes.energy_measurement import POWER_TRUSTED_WITHIN, Series, vision_work
from profiling.probes.energy_window import Window, measure_update_period
from profiling.probes.instruments import NOT_THE_GPU, cpu_instruments, open_instruments
from profiling.records import ESTIMATED, MEASURED, UNAVAILABLE, Reading
from profiling.selfcheck.simulated import (
    GLANCE_S,
    FakeNvml,
    FixedEstimate,
    Load,
    PhasedLoad,
    RaplTree,
    SimulatedEngine,
    World,
    nvml_opener,
    rapl_opener,
)
from tests.marking import slow_except

PASSES_S = (0.01, 0.1, 0.37, 3.0, 10.0)
TOLERANCE = 0.02
SETTINGS: dict[str, Any] = {
    "windows": 5,
    "min_window_s": 5.0,
    "min_updates": 50,
    "max_total_s": 600.0,
    "settle_s": 1.0,
    "idle_s": 2.0,
    "phases": False,
    "max_relative_uncertainty": 0.1,
    "max_idle_drift": 0.1,
    "period_changes": 20,
    "period_timeout_s": 5.0,
    "power_sample_s": 0.001,
    "estimate_s": 0.0,
}


def probe(opener: Any, **changed: Any) -> EnergyProbe:
    settings = SETTINGS | changed
    return EnergyProbe(**settings, open_instruments=opener, estimator=FixedEstimate)


def aggregates(readings: Iterator[Reading]) -> dict[str, Reading]:
    return {reading.metric: reading for reading in readings if reading.is_aggregate}


def measure_simulated(nvml: FakeNvml, load: Load, **changed: Any) -> dict[str, Reading]:
    return aggregates(probe(nvml_opener(nvml), **changed).measure(load))  # type: ignore[arg-type]


# NVML's energy counter


@pytest.mark.parametrize("period_s", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("pass_s", PASSES_S)
def test_energy_counter_gives_the_known_joules(period_s: float, pass_s: float) -> None:
    world = World()
    load = Load(world=world, pass_s=pass_s)
    found = measure_simulated(FakeNvml(world=world, period_s=period_s), load)
    energy = found["energy_j"]
    assert energy.status == MEASURED
    assert energy.source.startswith("NVML total energy counter of Simulated Board")
    assert energy.value == pytest.approx(load.sample_j, rel=TOLERANCE)
    low, high = found["energy_ci_low_j"].value, found["energy_ci_high_j"].value
    assert low is not None and high is not None
    assert low <= energy.value <= high


def test_net_is_gross_less_idle() -> None:
    world = World()
    load = Load(world=world, pass_s=0.37)
    found = measure_simulated(FakeNvml(world=world, period_s=0.05), load)
    known = load.sample_j - world.idle_w * load.pass_s / load.batch_size
    assert found["energy_net_j"].value == pytest.approx(known, rel=TOLERANCE)


def test_every_component_says_how_it_was_measured() -> None:
    world = World()
    load = Load(world=world, pass_s=0.37)
    found = measure_simulated(FakeNvml(world=world, period_s=0.1), load)
    assert found["energy_gpu_board_windows"].value == 5
    assert found["energy_gpu_board_update_period_s"].value == pytest.approx(0.1, rel=0.02)
    assert found["energy_gpu_board_updates"].value >= 50  # type: ignore[operator]
    assert found["energy_gpu_board_window_s"].value >= 5  # type: ignore[operator]
    assert found["energy_gpu_board_idle_before_w"].value == pytest.approx(70, rel=TOLERANCE)
    assert found["energy_gpu_board_relative_uncertainty"].value < 0.02  # type: ignore[operator]
    assert found["energy_cpu_package_j"].status == UNAVAILABLE
    assert "no RAPL under" in found["energy_cpu_package_j"].source


def test_windows_are_kept_as_raw_rows() -> None:
    world = World()
    readings = list(
        probe(nvml_opener(FakeNvml(world=world, period_s=0.05))).measure(
            Load(world=world, pass_s=0.37)  # type: ignore[arg-type]
        )
    )
    raw = [r for r in readings if r.metric == "energy_j" and r.repeat is not None]
    assert [r.repeat for r in raw] == [0, 1, 2, 3, 4]


def test_a_counter_that_stands_still_measures_nothing() -> None:
    world = World()
    nvml = FakeNvml(world=world, period_s=1e9)
    energy = measure_simulated(nvml, Load(world=world, pass_s=0.37))["energy_j"]
    assert (energy.value, energy.status) == (None, UNAVAILABLE)
    assert "did not move within 5 s" in energy.source


def test_a_board_cut_into_instances_is_not_charged_to_one_of_them() -> None:
    world = World()
    nvml = FakeNvml(world=world, period_s=0.05, is_cut=True)
    energy = measure_simulated(nvml, Load(world=world, pass_s=0.37))["energy_j"]
    assert energy.value is None
    assert "MIG" in energy.source


def test_a_device_that_nvml_does_not_know_has_no_board() -> None:
    nvml = FakeNvml(world=World(), period_s=0.1)
    assert find_board(nvml, "GPU-instance") is None
    board = find_board(nvml, "GPU-0")
    assert board is not None
    assert board.name == "Simulated Board"


def test_without_a_board_a_gpu_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def none(uuid: str | None) -> Iterator[None]:
        yield None

    monkeypatch.setattr(instruments_module, "board_of", none)
    with open_instruments("GPU-0", power_sample_s=0.01) as found:
        assert found.missing == {"gpu_board": NO_BOARD}


def test_what_does_not_fit_the_budget_is_refused_before_anything_runs() -> None:
    world = World()
    load = Load(world=world, pass_s=0.37)
    nvml = FakeNvml(world=world, period_s=0.05)
    energy = measure_simulated(nvml, load, max_total_s=2.0)["energy_j"]
    assert energy.value is None
    assert "max_total_s=2" in energy.source
    # The one pass is the estimate's.
    assert load.passes == 1


def test_a_slow_counter_lengthens_the_window_beyond_the_budget() -> None:
    world = World()
    nvml = FakeNvml(world=world, period_s=1.0)
    energy = measure_simulated(
        nvml, Load(world=world, pass_s=0.37), max_total_s=60.0, period_timeout_s=60.0
    )["energy_j"]
    assert energy.value is None
    assert "windows of 50 s" in energy.source


def test_throttling_voids_the_net_only() -> None:
    world = World()
    nvml = FakeNvml(world=world, period_s=0.05, throttling=64)
    found = measure_simulated(nvml, Load(world=world, pass_s=0.37))
    assert found["energy_j"].status == MEASURED
    assert found["energy_net_j"].value is None
    assert "hardware thermal slowdown" in found["energy_net_j"].source


def test_idle_drift_voids_the_net_only() -> None:
    world = World()
    load = Load(world=world, pass_s=0.37)
    run = load.run

    def warming(index: int, *, max_new_tokens: int | None = None) -> None:
        run(index, max_new_tokens=max_new_tokens)
        world.idle_w *= 1.01

    load.run = warming  # type: ignore[method-assign]
    found = measure_simulated(FakeNvml(world=world, period_s=0.05), load)
    assert found["energy_j"].status == MEASURED
    assert found["energy_net_j"].value is None
    assert "idle power drifted" in found["energy_net_j"].source


def test_windows_that_disagree_are_no_measurement() -> None:
    world = World()
    load = Load(world=world, pass_s=0.37)
    run = load.run

    def heating(index: int, *, max_new_tokens: int | None = None) -> None:
        load.high_w *= 1.05
        run(index, max_new_tokens=max_new_tokens)

    load.run = heating  # type: ignore[method-assign]
    found = measure_simulated(FakeNvml(world=world, period_s=0.05), load)
    for metric in ("energy_j", "energy_gpu_board_j", "energy_net_j", "decode_energy_j"):
        assert found[metric].value is None
        assert "agree only within" in found[metric].source
    assert found["energy_gpu_board_relative_uncertainty"].value > 0.1  # type: ignore[operator]


def test_one_window_has_no_interval_and_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"energy\.windows=1: at least 2"):
        EnergyProbe(**SETTINGS | {"windows": 1})


@pytest.mark.slow
def test_the_interval_covers_the_known_joules() -> None:
    covered = sum(interval_covers(seed) for seed in range(60))
    assert covered >= 0.93 * 60


def interval_covers(seed: int) -> bool:
    """Passes whose power differs by a tenth from one to the next."""
    chance = random.Random(seed)
    world = World()
    load = Load(world=world, pass_s=0.2 + 0.3 * chance.random())
    known, usual_w, run = load.sample_j, load.high_w, load.run

    def vary(index: int, *, max_new_tokens: int | None = None) -> None:
        load.high_w = usual_w * (1 + chance.gauss(0, 0.1))
        run(index, max_new_tokens=max_new_tokens)

    load.run = vary  # type: ignore[method-assign]
    nvml = FakeNvml(world=world, period_s=chance.choice([0.02, 0.05, 0.1]))
    found = measure_simulated(nvml, load)
    low, high = found["energy_ci_low_j"].value, found["energy_ci_high_j"].value
    return low is not None and high is not None and low <= known <= high


# NVML's power, integrated


def measure_power(period_s: float, load: Load, **changed: Any) -> dict[str, Reading]:
    nvml = FakeNvml(world=load.world, period_s=period_s, has_energy=False)
    return measure_simulated(nvml, load, **changed)


def check_power(energy: Reading, known_j: float) -> bool:
    """Whether there is a value, which then is right; where there is none, it says why."""
    if energy.value is None:
        assert "agree only within" in energy.source
        return False
    assert energy.source.startswith("NVML power of Simulated Board")
    assert energy.value == pytest.approx(known_j, rel=TOLERANCE)
    return True


def spent_j(load: Load) -> float:
    """Joules a sample with what looking at the clock after each pass takes."""
    return load.sample_j + GLANCE_S * load.world.idle_w / load.batch_size


# Passes as long as the period of the readings, or half of it, show them one part of each pass.
@pytest.mark.parametrize(
    ("period_s", "pass_s", "resolved"),
    slow_except(
        [
            (0.02, 0.013, False),
            (0.02, 0.02, False),
            (0.02, 0.37, True),
            (0.05, 0.013, True),
            (0.1, 0.01, True),
            (0.1, 0.05, False),
            (0.1, 0.1, False),
            (0.1, 0.37, True),
            (0.1, 10.0, True),
        ],
        *((0.02, 0.013, False), (0.05, 0.013, True), (0.1, 0.1, False), (0.1, 0.37, True)),
    ),
)
def test_power_is_right_or_says_that_it_cannot_be(
    period_s: float, pass_s: float, resolved: bool
) -> None:
    load = Load(world=World(), pass_s=pass_s)
    energy = measure_power(period_s, load)["energy_j"]
    assert check_power(energy, load.sample_j) is resolved


def draw_power(seed: int) -> tuple[float, Load, dict[str, Reading]]:
    """Readings of any period in use, passes of any length and shape, begun at any moment."""
    chance = random.Random(seed)
    world = World()
    world.spend(chance.random(), world.idle_w)
    load = Load(
        world=world,
        pass_s=10 ** chance.uniform(-2, 1),
        high_share=chance.uniform(0.1, 0.9),
        high_w=chance.uniform(160, 600),
    )
    period_s = chance.uniform(0.02, 0.1)
    return period_s, load, measure_power(period_s, load)


@pytest.mark.slow
@pytest.mark.parametrize("period_s", [0.02, 0.033, 0.05, 0.1])
def test_power_is_right_or_refused_for_passes_of_any_length(period_s: float) -> None:
    passes_s = (0.01, 0.0125, 0.013, 0.017, 0.025, 0.05, 0.1, 0.2, 0.37, 1.0, 3.0, 10.0)
    known = [Load(world=World(), pass_s=pass_s) for pass_s in passes_s]
    kept = [check_power(measure_power(period_s, one)["energy_j"], one.sample_j) for one in known]
    assert sum(kept) >= len(kept) / 2


@pytest.mark.slow
def test_the_interval_of_power_covers_the_known_joules() -> None:
    kept = covered = 0
    for seed in range(60):
        _, load, found = draw_power(seed)
        if check_power(found["energy_j"], load.sample_j):
            low, high = found["energy_ci_low_j"].value, found["energy_ci_high_j"].value
            assert low is not None and high is not None
            kept += 1
            covered += low <= spent_j(load) <= high
    assert kept >= 40
    assert covered >= 0.93 * kept


def test_power_is_trusted_less_than_a_counter() -> None:
    load = Load(world=World(), pass_s=0.013)
    found = measure_power(0.02, load, max_relative_uncertainty=0.5)
    uncertainty = found["energy_gpu_board_relative_uncertainty"].value
    assert uncertainty is not None
    assert POWER_TRUSTED_WITHIN < uncertainty < 0.5
    assert found["energy_j"].value is None


def test_the_period_of_power_is_taken_for_long() -> None:
    found = measure_power(0.02, Load(world=World(), pass_s=3.0))
    assert found["energy_gpu_board_update_period_s"].status == ESTIMATED
    assert found["energy_gpu_board_updates"].value >= 50  # type: ignore[operator]


def test_doubt_is_what_the_steps_between_two_readings_leave_open() -> None:
    watts, now = iter([10.0, 30.0, 30.0, 20.0]), iter([0.0, 1.0, 2.0, 4.0])
    time_ = Time(now_s=lambda: next(now), sleep=lambda seconds: None)
    integral = PowerIntegral(read_w=lambda: next(watts), name="B", sample_s=1.0, time=time_)
    joules = [integral.advance() for _ in range(3)]
    assert joules == [20.0, 50.0, 100.0]
    # Half of the step of 20 W over one second, and of 10 W over two.
    assert integral.read_doubt_j() == 10.0 + 10.0


def test_pauses_between_passes_are_no_part_of_the_window() -> None:
    load = Load(world=World(), pass_s=0.5, high_w=300.0, low_w=300.0)
    found = measure_power(0.1, load)
    assert found["energy_gpu_board_window_s"].value == pytest.approx(10.0, rel=0.01)
    assert found["energy_j"].value == pytest.approx(load.sample_j, rel=0.005)


def test_a_board_without_energy_and_power_says_so() -> None:
    world = World()
    nvml = FakeNvml(world=world, period_s=0.1, has_energy=False, has_power=False)
    energy = measure_simulated(nvml, Load(world=world, pass_s=0.37))["energy_j"]
    assert energy.value is None
    assert "neither energy nor power" in energy.source


def test_the_sampling_thread_adds_up_what_it_reads() -> None:
    integral = PowerIntegral(read_w=lambda: 10.0, name="B", sample_s=0.001, time=Time())
    begun_s, begun_j = integral._last_s, integral.read_j()
    with integral.sampling():
        time.sleep(0.05)
    spent_j = integral.read_j()
    assert spent_j - begun_j <= 10 * (integral._last_s - begun_s)
    assert spent_j == pytest.approx(10 * (integral._last_s - begun_s))


# RAPL


def rapl_tree(root: Path, world: World, **changed: Any) -> RaplTree:
    options = {"range_uj": 262_143_328_850, "start_uj": 0} | changed
    return RaplTree(root=root, world=world, **options)


def measure_cpu(tree: RaplTree, load: Load, **changed: Any) -> dict[str, Reading]:
    options = {"min_window_s": 1.0} | changed
    return aggregates(probe(rapl_opener(tree), **options).measure(load))  # type: ignore[arg-type]


def cpu_load(world: World, pass_s: float) -> Load:
    return Load(world=world, pass_s=pass_s, high_w=200.0, low_w=90.0, device_type="cpu")


@pytest.mark.parametrize(("pass_s", "packages"), [*((pass_s, 1) for pass_s in PASSES_S), (0.37, 2)])
def test_rapl_gives_the_known_joules(tmp_path: Path, pass_s: float, packages: int) -> None:
    world = World()
    tree = rapl_tree(tmp_path, world, packages=packages)
    load = cpu_load(world, pass_s)
    found = measure_cpu(tree, load)
    assert found["energy_j"].status == MEASURED
    assert found["energy_j"].source.startswith("RAPL cpu_package")
    assert found["energy_j"].value == pytest.approx(load.sample_j, rel=TOLERANCE)
    assert found["energy_gpu_board_j"].source == NOT_THE_GPU
    assert "no dram domain" in found["energy_dram_j"].source


def test_rapl_survives_a_wrap(tmp_path: Path) -> None:
    world = World()
    # The counter stands 500 J before its end, and the windows hold about 700 J.
    tree = rapl_tree(tmp_path, world, range_uj=20_000_000_000, start_uj=19_500_000_000)
    load = cpu_load(world, 0.37)
    found = measure_cpu(tree, load)
    assert int((tree.folders[0] / "energy_uj").read_text()) < tree.start_uj
    assert found["energy_j"].value == pytest.approx(load.sample_j, rel=TOLERANCE)


def test_a_window_that_could_hide_two_wraps_is_refused(tmp_path: Path) -> None:
    world = World()
    tree = rapl_tree(tmp_path, world, range_uj=3_000_000_000)
    energy = measure_cpu(tree, cpu_load(world, 0.37), min_window_s=5.0)["energy_j"]
    assert energy.value is None
    assert "more than one wrap" in energy.source


def test_rapl_that_only_root_may_read_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    tree = rapl_tree(tmp_path, world)

    def refuse(zone: Zone) -> int:
        raise PermissionError(13, "Permission denied", str(zone.path))

    monkeypatch.setattr(Zone, "read_uj", refuse)
    energy = measure_cpu(tree, cpu_load(world, 0.37))["energy_j"]
    assert energy.value is None
    assert "sudo chmod a+r" in energy.source


def test_dram_is_a_component_of_its_own(tmp_path: Path) -> None:
    for folder, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:2", "dram")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "name").write_text(name)
        (tmp_path / folder / "energy_uj").write_text("5")
        (tmp_path / folder / "max_energy_range_uj").write_text("1000")
    # The whole platform's domain holds the others again.
    (tmp_path / "intel-rapl:1").mkdir()
    (tmp_path / "intel-rapl:1" / "name").write_text("psys")
    assert set(open_rapl(tmp_path).counters) == {"cpu_package", "dram"}


@pytest.mark.parametrize(
    ("name", "content"), [("energy_uj", ""), ("energy_uj", None), ("max_energy_range_uj", None)]
)
def test_a_domain_that_cannot_be_read_leaves_the_reason(
    name: str, content: str | None, tmp_path: Path
) -> None:
    rapl_tree(tmp_path, World())
    (broken,) = tmp_path.rglob(name)
    broken.unlink()
    if content is not None:
        broken.write_text(content)
    found = open_rapl(tmp_path)
    assert found.counters == {}
    assert "cpu_package domain that cannot be read: " in found.missing["cpu_package"]
    assert "has no dram domain" in found.missing["dram"]


def test_a_machine_without_rapl_says_what_to_do(tmp_path: Path) -> None:
    found = cpu_instruments(tmp_path, Time())
    assert found.counters == {}
    assert "run on the bare machine" in found.missing["cpu_package"]


def test_a_cpu_run_never_asks_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(uuid: str | None) -> None:
        raise AssertionError("a CPU run asked NVML")

    monkeypatch.setattr(instruments_module, "board_of", refuse)
    with open_instruments(None, power_sample_s=0.01) as found:
        assert found.headline == "cpu_package"
        assert found.missing["gpu_board"] == NOT_THE_GPU


@settings(max_examples=30)
@given(st.lists(st.integers(0, 999), min_size=2, max_size=30), st.integers(0, 999))
def test_wraps_are_unrolled(steps: list[int], start: int) -> None:
    zone = object.__new__(Zone)
    zone.range_uj, zone._total_uj, zone._last_uj = 1000, 0, start
    total = 0
    for step in steps:
        total += step
        zone.read_uj = lambda total=total: (start + total) % 1000  # type: ignore[method-assign]
        assert zone.advance() == total


# Phases


def test_joules_by_phase_are_the_known_ones() -> None:
    world = World()
    nvml = FakeNvml(world=world, period_s=0.05)
    load = PhasedLoad(world)
    found = measure_simulated(nvml, load, phases=True)
    known = load.phases_j
    for phase, joules in known.items():
        assert found[f"{phase}_energy_j"].value == pytest.approx(joules, rel=0.03), phase
    parts = sum(found[f"{phase}_energy_j"].value for phase in known)  # type: ignore[misc]
    assert parts == pytest.approx(found["energy_j"].value)


def test_phases_that_do_not_fit_leave_the_whole_standing() -> None:
    world = World()
    nvml = FakeNvml(world=world, period_s=0.05)
    found = measure_simulated(nvml, PhasedLoad(world), phases=True, max_total_s=50.0)
    assert found["energy_j"].status == MEASURED
    assert found["decode_energy_j"].value is None
    assert "do not fit" in found["decode_energy_j"].source


# Batches that differ


class Uneven(PhasedLoad):
    """Batches whose passes take so many times as long as one of `PhasedLoad`."""

    def __init__(self, world: World, *factors: float) -> None:
        super().__init__(world)
        self.factors = factors
        self.batches = [()] * len(factors)
        self.begun = 0
        self.ran: list[int] = []
        self.engine: Any = SimpleNamespace(
            begin_pass=self._begin,
            footprint=self.engine.footprint,
            replay=self._replay,
            synchronize=lambda: None,
        )

    @property
    def sample_j(self) -> float:
        return sum(self.phases_j.values())

    @property
    def phases_j(self) -> dict[str, float]:
        mean = sum(self.factors) / len(self.factors)
        return {phase: mean * joules for phase, joules in super().phases_j.items()}

    def _begin(self) -> None:
        self.begun += 1

    def _replay(self, part: str, run: Any) -> Any:
        run()
        index = self.ran[-1]
        return lambda: self.world.spend(0.1 * self.factors[index], 300.0)

    def run(self, index: int, *, max_new_tokens: int | None = None) -> None:
        self.ran.append(index)
        factor, tokens = self.factors[index], max_new_tokens or self.TOKENS
        self.world.spend(0.1 * factor, 300.0)
        self.world.spend(0.2 * factor, 400.0)
        self.world.spend(0.02 * factor * (tokens - 1), 150.0)


ORDERS = [(*[1.0] * position, 16.0, *[1.0] * (5 - position)) for position in range(6)]


@pytest.mark.parametrize("factors", ORDERS)
def test_joules_a_sample_are_the_mean_of_all_batches_in_any_order(
    factors: tuple[float, ...],
) -> None:
    world = World()
    load = Uneven(world, *factors)
    found = measure_simulated(FakeNvml(world=world, period_s=0.05), load, phases=True)
    assert found["energy_j"].value == pytest.approx(load.sample_j, rel=TOLERANCE)
    for phase, joules in load.phases_j.items():
        assert found[f"{phase}_energy_j"].value == pytest.approx(joules, rel=0.03), phase
    assert ", each of whole cycles of 6 batches" in found["energy_j"].source
    assert "its inputs of 6 of 6 batches kept" in found["vision_energy_j"].source
    # Equal work in each window leaves the counter's steps as all that they differ by.
    assert found["energy_gpu_board_relative_uncertainty"].value < 0.02  # type: ignore[operator]


UNEVEN = [(*[1.0] * position, 4.0, *[1.0] * (5 - position)) for position in range(6)]


@pytest.mark.parametrize("factors", UNEVEN)
def test_where_whole_cycles_do_not_fit_the_windows_go_on_through_the_batches(
    factors: tuple[float, ...],
) -> None:
    """A cycle takes 4.5 s, and the budget has 3.2 s for each window."""
    world = World()
    load = Uneven(world, *factors)
    found = measure_simulated(
        FakeNvml(world=world, period_s=0.02),
        load,
        max_total_s=20.0,
        min_window_s=1.0,
        idle_s=1.0,
        max_relative_uncertainty=10.0,
    )
    low, high = found["energy_ci_low_j"].value, found["energy_ci_high_j"].value
    assert low is not None and high is not None
    assert low <= load.sample_j <= high
    assert ", each of a part of a cycle of 6 batches" in found["energy_j"].source
    assert set(load.ran) == set(range(6))


def test_a_window_of_whole_cycles_that_could_hide_two_wraps_is_cut(tmp_path: Path) -> None:
    world = World()
    load = Uneven(world, *[1.0] * 30)
    load.engine.footprint = cpu_load(world, 1.0).engine.footprint
    found = measure_cpu(rapl_tree(tmp_path, world, range_uj=3_000_000_000), load)
    assert found["energy_j"].value == pytest.approx(load.sample_j, rel=TOLERANCE)
    assert ", each of a part of a cycle of 30 batches" in found["energy_j"].source


def test_the_engine_begins_a_pass_at_each_cycle_of_the_vision_part_alone() -> None:
    world = World()
    load = Uneven(world, 1.0, 2.0, 3.0)
    work = vision_work(load, at_most_s=60.0, time=world.time)  # type: ignore[arg-type]
    assert (work.cycle, load.begun) == (3, 1)
    for _ in range(7):
        work.run()
    assert load.begun == 1 + 3


def test_of_batches_that_take_long_some_show_the_vision_part() -> None:
    world = World()
    load = Uneven(world, *[10.0] * 5)
    work = vision_work(load, at_most_s=5.0, time=world.time)  # type: ignore[arg-type]
    # A pass of one token takes three seconds.
    assert work.cycle == 2


def test_an_engine_that_cannot_run_its_vision_part_alone_says_so() -> None:
    world = World()
    load = Load(world=world, pass_s=0.37)
    found = measure_simulated(FakeNvml(world=world, period_s=0.05), load, phases=True)
    assert found["energy_j"].status == MEASURED
    for phase in ("vision", "prefill", "decode"):
        reading = found[f"{phase}_energy_j"]
        assert (reading.value, reading.status) == (None, UNAVAILABLE)
        assert "has no vision part" in reading.source


def test_an_engine_on_another_machine_has_no_joules_here() -> None:
    load = Load(world=World(), pass_s=0.37, device_type="elsewhere")
    found = measure_simulated(FakeNvml(world=load.world, period_s=0.05), load)
    for metric in ("energy_j", "energy_estimate_j", "vision_energy_j"):
        assert (found[metric].value, found[metric].status) == (None, UNAVAILABLE)
        assert found[metric].source == ELSEWHERE
    assert load.passes == 0


# Laws and parts


@given(st.floats(1e-3, 1e6), st.integers(1, 10_000), st.floats(1e-3, 1e3))
def test_joules_a_sample_times_samples_are_the_windows(
    joules: float, samples: int, duration_s: float
) -> None:
    window = Window(joules={"x": joules}, duration_s=duration_s, samples=samples)
    assert window.per_sample_j("x") * samples == pytest.approx(joules)
    series = Series(windows=[window, window])
    assert series.sample_s * 2 * samples == pytest.approx(2 * duration_s)


@pytest.mark.parametrize("period_s", [0.02, 0.05, 0.1])
def test_the_update_period_is_found(period_s: float) -> None:
    world = World()
    board = Board(nvml=FakeNvml(world=world, period_s=period_s), uuid="GPU-0")
    found = measure_update_period(
        EnergyCounter(board=board), changes=20, timeout_s=10.0, time=world.time
    )
    assert found == pytest.approx(period_s, rel=0.02)


# CodeCarbon


class Spinning:
    """A real load, to be estimated."""

    batch_size = 2
    batches = ((),)

    def __init__(self) -> None:
        self.engine: Any = SimulatedEngine(device_type="cpu", vision=None)

    def run(self, index: int, *, max_new_tokens: int | None = None) -> None:
        sum(i * i for i in range(20_000))


@contextmanager
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    tried: list[Any] = []

    def refuse(_socket: socket.socket, address: Any) -> None:
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield tried


def test_the_estimate_is_labelled_offline_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODECARBON_PUE", "7")
    monkeypatch.setenv("CODECARBON_EMISSIONS_ENDPOINT", "http://192.0.2.1/emissions")
    energy = EnergyProbe(**SETTINGS | {"estimate_s": 0.2})
    with no_network(monkeypatch) as tried:
        found = aggregates(energy.measure(Spinning()))  # type: ignore[arg-type]
    assert tried == []
    assert list(tmp_path.iterdir()) == []
    estimate = found["energy_estimate_j"]
    assert estimate.status == ESTIMATED
    assert "CodeCarbon" in estimate.source
    parts = [found[f"energy_estimate_{part}_j"].value for part in ("cpu", "ram")]
    assert estimate.value == pytest.approx(sum(parts))  # type: ignore[arg-type]
    assert all(part is not None and part > 0 for part in parts)
    assert "energy_estimate_gpu_j" not in found


def test_a_cpu_estimate_leaves_the_gpus_of_the_machine_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joule_kwh = 1 / 3.6e6
    data = SimpleNamespace(cpu_energy=joule_kwh, ram_energy=2 * joule_kwh, gpu_energy=99.0)
    tracker = SimpleNamespace(start_task=lambda: None, stop_task=lambda: data)
    monkeypatch.setattr(CodeCarbonEstimate, "_tracker", lambda self: tracker)
    on_cpu = CodeCarbonEstimate(gpu_uuid=None).measure(lambda: None)
    on_gpu = CodeCarbonEstimate(gpu_uuid="GPU-0").measure(lambda: None)
    assert on_cpu.total_j == pytest.approx(3.0)
    assert on_gpu.total_j == pytest.approx(3.0 + 99.0 * 3.6e6)


def test_a_gpu_that_codecarbon_does_not_see_is_no_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = SimpleNamespace(cpu_energy=1.0, ram_energy=1.0, gpu_energy=0.0)
    tracker = SimpleNamespace(start_task=lambda: None, stop_task=lambda: data)
    monkeypatch.setattr(CodeCarbonEstimate, "_tracker", lambda self: tracker)
    unseen = EnergyProbe(**SETTINGS, estimator=lambda uuid: CodeCarbonEstimate(gpu_uuid="GPU-0"))
    estimate = aggregates(unseen.measure(Spinning()))["energy_estimate_j"]  # type: ignore[arg-type]
    assert (estimate.value, estimate.status) == (None, UNAVAILABLE)
    assert "no energy from the GPU" in estimate.source


def test_codecarbon_is_told_the_boards_index(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def second_board(uuid: str | None) -> Iterator[Any]:
        yield SimpleNamespace(index=1) if uuid else None

    monkeypatch.setattr(codecarbon_estimate, "board_of", second_board)
    assert codecarbon_estimate._indices("GPU-0") == [1]
    assert codecarbon_estimate._indices(None) is None


def test_without_codecarbon_the_estimate_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CodeCarbonEstimate, "is_installed", staticmethod(lambda: False))
    found = aggregates(EnergyProbe(**SETTINGS).measure(Spinning()))  # type: ignore[arg-type]
    assert found["energy_estimate_j"].value is None
    assert "pip install codecarbon" in found["energy_estimate_j"].source


def test_importing_the_probe_starts_nothing_slow() -> None:
    code = (
        "import json, sys, profiling.probes.energy as _;"
        "print(json.dumps([m for m in ('codecarbon', 'pynvml', 'torch') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


# A real board


class Multiplying(Spinning):
    """Matrix products on the GPU, about a tenth of a second a pass."""

    def __init__(self) -> None:
        device = torch.device("cuda:0")
        footprint = replace(
            SimulatedEngine(device_type="cuda", vision=None).footprint(),
            gpu_uuid=cuda_uuid(device),
        )
        self.engine = SimpleNamespace(
            footprint=lambda: footprint,
            synchronize=torch.cuda.synchronize,
            begin_pass=lambda: None,
        )
        self.square = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)

    def run(self, index: int, *, max_new_tokens: int | None = None) -> None:
        for _ in range(40):
            torch.matmul(self.square, self.square)


@pytest.mark.gpu
@pytest.mark.slow
def test_a_real_board_draws_what_a_board_can_draw() -> None:
    found = aggregates(EnergyProbe(**SETTINGS).measure(Multiplying()))  # type: ignore[arg-type]
    energy, window_s = found["energy_j"], found["energy_gpu_board_window_s"]
    assert energy.status == MEASURED, energy.source
    assert window_s.value >= 5  # type: ignore[operator]
    idle_w = found["energy_gpu_board_idle_before_w"].value
    assert idle_w is not None
    assert 5 < idle_w < 400
    assert found["energy_net_j"].value is None or found["energy_net_j"].value < energy.value  # type: ignore[operator]
    assert found["energy_estimate_j"].status == ESTIMATED
