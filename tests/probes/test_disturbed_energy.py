"""What others draw while joules are measured: in the joules, and told by the noise gate."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from profiling.engines.workload import Workload
from profiling.machine.noise import NoiseGate, NoiseLimits, describe_noise, find_noise
from profiling.probes.energy import EnergyProbe
from profiling.probes.flops import FlopsProbe
from profiling.probes.latency import LatencyProbe
from profiling.probes.memory import MemoryProbe
from profiling.records import Reading
from profiling.runs import experiment
from profiling.selfcheck.simulated import FixedEstimate, Load, RaplTree, World, rapl_opener
from profiling.selfcheck.tiny import compose
from tests import tiny_models
from tests.composing import compose_point
from tests.machine.test_noise import FakeBoard
from tests.tiny_models import take_samples

CORES, OWN = 4, 4242
PROFILER = compose(profiler="full")["profiler"]


@dataclass
class Disturbed(Load):
    """Passes on one core, beside which another process draws and computes on others."""

    foreign_w: float = 0.0
    foreign_cores: float = 0.0
    own_s: float = 0.0
    foreign_s: float = 0.0
    device_type: str = "cpu"
    root: Path = field(default_factory=Path)

    def run(self, index: int, *, max_new_tokens: int | None = None) -> None:
        self.own_s += self.pass_s
        self.foreign_s += self.foreign_cores * self.pass_s
        high_s = self.pass_s * self.high_share
        self.world.spend(high_s, self.high_w + self.foreign_w)
        self.world.spend(self.pass_s - high_s, self.low_w + self.foreign_w)

    def write_kernel(self) -> None:
        """The kernel's files, as they are at this moment of the simulated time."""
        per_s = os.sysconf("SC_CLK_TCK")
        busy = int((self.own_s + self.foreign_s) * per_s)
        idle = int(CORES * self.world.now * per_s) - busy
        (self.root / "stat").write_text(f"cpu {busy} 0 0 {idle} 0 0 0 0 0 0\n")
        (self.root / str(OWN)).mkdir(exist_ok=True)
        fields = ["0"] * 11 + [str(int(self.own_s * per_s)), "0"]
        (self.root / str(OWN) / "stat").write_text(f"{OWN} (python) {' '.join(fields)}\n")


def measure(folder: Path, **foreign: float) -> tuple[float, NoiseGate]:
    world = World()
    (folder / "proc").mkdir()
    load = Disturbed(world=world, pass_s=0.37, root=folder / "proc", **foreign)  # type: ignore[arg-type]
    tree = RaplTree(folder, world, range_uj=2**60, start_uj=0)
    settings = PROFILER["probes"]["energy"] | {"phases": False, "max_total_s": 1e4}
    probe = EnergyProbe(
        **(settings | {"estimate_s": 0.0}),
        open_instruments=rapl_opener(tree),
        estimator=FixedEstimate,
    )
    gate = NoiseGate(
        limits=NoiseLimits(**(PROFILER["noise"] | {"max_load_per_core": 1e9})),
        board=None,
        cpu_bound=True,
        idles=probe.idles,
        pids=[OWN],
        proc=folder / "proc",
        now_s=lambda: world.now,
    )
    world.onlookers.append(load.write_kernel)
    load.write_kernel()
    with gate:
        found = {r.metric: r for r in probe.measure(load) if r.is_aggregate}  # type: ignore[arg-type]
        load.write_kernel()
    value = found["energy_j"].value
    assert value is not None
    return value / load.sample_j, gate


def test_joules_on_a_quiet_machine_are_right_and_pauses_are_no_noise(tmp_path: Path) -> None:
    ratio, gate = measure(tmp_path)
    assert ratio == pytest.approx(1, abs=0.02)
    assert gate.reason is None


def test_a_foreign_load_of_100_w_in_the_windows_is_flagged(tmp_path: Path) -> None:
    ratio, gate = measure(tmp_path, foreign_w=100.0, foreign_cores=1.0)
    assert ratio > 1.3
    assert gate.reason is not None
    assert "other processes used" in gate.reason


# Which probes are watched


def test_what_others_can_disturb_is_watched() -> None:
    assert (LatencyProbe.timed, MemoryProbe.timed, EnergyProbe.timed) == (True, True, True)
    assert not FlopsProbe.timed
    assert EnergyProbe.idles
    assert not hasattr(LatencyProbe, "idles")


def test_a_gate_that_is_told_of_pauses_sees_no_waiting_and_no_clock_that_falls() -> None:
    limits = NoiseLimits(**PROFILER["noise"])
    for idles, words in ((True, None), (False, "clock fell by 40%")):
        gate = NoiseGate(limits=limits, board=FakeBoard(), cpu_bound=False, idles=idles)
        gate.log.clocks_hz.extend([1.5e9, 1.5e9, 0.9e9])
        assert gate.reason is None if words is None else words in str(gate.reason)


def make_gate(**figures: float) -> NoiseGate:
    gate = NoiseGate(limits=NoiseLimits(**PROFILER["noise"]), board=None, cpu_bound=True)
    gate.figures = figures
    return gate


def test_the_highest_figure_is_kept_and_the_probe_is_named() -> None:
    gates = {
        "latency": make_gate(foreign_share=0.02, load_per_core=0.3),
        "energy": make_gate(foreign_share=0.5, load_per_core=0.2),
    }
    found: dict[str, Reading] = {r.metric: r for r in describe_noise(gates)}
    assert found["noise_foreign_share"].value == 0.5
    assert found["noise_foreign_share"].source.endswith("measuring energy")
    assert found["noise_load_per_core"].source.endswith("measuring latency")
    assert find_noise(gates) == "energy: other processes used 50% of the CPU"
    assert find_noise({"latency": make_gate()}) is None


@pytest.mark.parametrize("disturbed", ["latency", "memory", "energy"])
def test_noise_in_any_of_the_three_marks_the_run(
    disturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only while one probe is at work do others use the machine."""
    at_work: list[str] = []

    def fake_probe(name: str) -> Any:
        def make(**_: Any) -> Any:
            real = {"latency": LatencyProbe, "memory": MemoryProbe, "energy": EnergyProbe}[name]

            class Probe:
                timed = real.timed

                def measure(self, workload: Workload) -> tuple[()]:
                    at_work.append(name)
                    return ()

            return Probe()

        return make

    class Gate(NoiseGate):
        def __exit__(self, *ended: object) -> None:
            super().__exit__(*ended)
            self.figures = {"foreign_share": 0.9 if at_work[-1] == disturbed else 0.0}

    monkeypatch.setattr(experiment, "find_probe", fake_probe)
    monkeypatch.setattr(experiment, "NoiseGate", Gate)
    monkeypatch.setattr(experiment, "place_phases", lambda *_, **__: ())
    plain = compose_point("model=llava", "profiler=quick", "max_new_tokens=2")
    probes: dict[str, Any] = {"latency": {}, "memory": {}, "energy": {}}
    point = replace(plain, profiler={**plain.profiler, "probes": probes})
    loading = experiment.Loading(load_s=1.0, peak_bytes=1, peak_source="made up")
    loaded = experiment.Loaded(engine=tiny_models.load("llava"), loading=loading)
    found = experiment.measure(point, take_samples(1), loaded, lambda _: None)
    assert found.noise == f"{disturbed}: other processes used 90% of the CPU"
