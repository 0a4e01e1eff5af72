"""The page about the columns: every number that is recorded is explained there, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from profiling.probes.picture_cache import read_picture_cache
from profiling.probes.variant import read_variant, settle

from profiling.engines.transformers.optimizations.optimization import build_model
from profiling.machine.noise import NoiseGate, NoiseLimits
from profiling.machine.peaks import Peaks
from profiling.probes import energy
from profiling.probes.codecarbon_estimate import ModelledEnergy
from profiling.probes.flops import FlopsProbe
from profiling.probes.memory import GpuPeak
from profiling.quality import Answered, score
from profiling.records import SUMMARY_COLUMNS, Reading
from profiling.runs import experiment
from profiling.samples.samples import load_samples
from profiling.selfcheck import energy as energy_check
from profiling.selfcheck.memory import SimulatedAllocator
from profiling.selfcheck.simulated import FakeNvml, PhasedLoad, RaplTree, World
from profiling.statistics.intervals import CONFIDENCE
from tests.tiny_models import compose_point, make_workload
from tests.tiny_models import load as load_tiny

PAGE = Path(__file__).resolve().parent.parent / "docs" / "columns.md"
HEADER = ("column", "definition", "method, sources in order", "uncertainty", "known limits")
PLACEHOLDERS = {
    "<phase>": "(vision|projector|prefill|decode)",
    "<component>": "(gpu_board|cpu_package|dram)",
    "<part>": "(vision|projector|text_encoder|language|head|other)",
}
CAPTION = Answered(id="0", answer="a red box", references=("a red box", "the box"))
OTHER = Answered(id="1", answer="2", references=("2", "2"))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of a table: the names that it explains, and what it says."""

    names: tuple[str, ...]
    cells: tuple[str, ...]


def sections() -> dict[str, str]:
    _, *parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@cache
def entries() -> tuple[Entry, ...]:
    return tuple(entry for text in sections().values() for entry in _entries_of(text))


def _entries_of(text: str) -> Iterator[Entry]:
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for row in rows[2:]:
        cells = tuple(cell.strip() for cell in row.strip("|").split("|"))
        yield Entry(names=tuple(re.findall(r"`([^`]+)`", cells[0])), cells=cells)


def pattern_of(name: str) -> re.Pattern[str]:
    for placeholder, values in PLACEHOLDERS.items():
        name = name.replace(placeholder, values)
    return re.compile(name)


def is_explained(metric: str) -> bool:
    return any(pattern_of(name).fullmatch(metric) for e in entries() for name in e.names)


# What is recorded


def quick_run() -> list[Reading]:
    settings = ("profiler=quick", "num_samples=2", "max_new_tokens=4", "profiler.repeats=3")
    point = compose_point(*settings)
    samples = load_samples(Path(point.dataset_folder), count=2, at_most=None)
    loaded = experiment.load(point)
    return experiment.measure(point, samples, loaded, lambda phase: None).readings


def judged() -> Iterator[Reading]:
    for accuracy in (None, "vqa", "option"):
        yield from score([CAPTION, OTHER], headline="first", accuracy=accuracy)


def cross_checked() -> Iterator[Reading]:
    workload = make_workload(load_tiny("llava"), batch_size=1, max_new_tokens=3, count=1)
    yield from FlopsProbe(cross_check=True).measure(workload)


def made_otherwise() -> Iterator[Reading]:
    """What is recorded of a variant that was made out of the plain model."""
    traced = ("optimization=compile", "optimization.compile.backend=aot_eager")
    model = build_model(compose_point(*traced))
    model.notes |= {"make_s": 1.0, "quantized_share": 0.5, "artifact_bytes": 1.0}
    workload = make_workload(model, batch_size=1, max_new_tokens=2, count=1)
    yield from read_variant(workload, settle(workload), load_peak_bytes=1)
    yield from read_picture_cache(build_model(compose_point("optimization=vision_cache")))


def on_a_simulated_gpu(folder: Path) -> Iterator[Reading]:
    """What only a machine with a GPU and with RAPL records."""
    world = World()
    opener = energy_check.nvml_opener(FakeNvml(world=world, period_s=0.1))
    settings = compose_point("profiler=full").profiler
    measured = energy_check._measure(
        opener, PhasedLoad(world), settings["probes"]["energy"], phases=True
    )
    yield from measured.values()
    tree = RaplTree(folder, world := World(), range_uj=30_000_000_000, start_uj=0)
    load = energy_check.Load(world=world, pass_s=0.37, device_type="cpu")
    opener = energy_check.rapl_opener(tree)
    yield from energy_check._measure(opener, load, settings["probes"]["energy"]).values()
    modelled = ModelledEnergy(cpu_j=1.0, ram_j=1.0, gpu_j=1.0, source="model")
    yield from energy._estimate_readings(modelled, 1)
    yield from GpuPeak(accelerator=SimulatedAllocator(), device=None).readings()
    yield from Peaks(
        device_name="NVIDIA H200",
        dtype="bfloat16",
        flops_per_s=1.0,
        bytes_per_s=1.0,
        matmul_shape=(1, 1, 1),
        threads=None,
        copy_bytes=1,
    ).readings()
    gate = NoiseGate(limits=NoiseLimits(**settings["noise"]), board=None, cpu_bound=False)
    gate.log.clocks_hz.append(1e9)
    yield from gate.readings()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every metric that a run can leave behind, here or on a machine with more instruments."""
    folder = tmp_path_factory.mktemp("columns")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        readings = [
            *quick_run(),
            *judged(),
            *cross_checked(),
            *made_otherwise(),
            *on_a_simulated_gpu(folder / "powercap"),
        ]
    return {reading.metric for reading in readings}


# The page


@pytest.mark.parametrize("column", SUMMARY_COLUMNS)
def test_every_column_has_one_entry_of_its_own(column: str) -> None:
    assert sum(column in entry.names for entry in entries()) == 1


def test_every_recorded_metric_is_explained(recorded: set[str]) -> None:
    assert sorted(metric for metric in recorded if not is_explained(metric)) == []


def test_nothing_is_explained_that_is_not_recorded(recorded: set[str]) -> None:
    known = recorded | set(SUMMARY_COLUMNS)
    names = [name for entry in entries() for name in entry.names]
    stale = [name for name in names if not any(pattern_of(name).fullmatch(one) for one in known)]
    assert stale == []


def test_no_name_has_two_entries() -> None:
    names = [name for entry in entries() for name in entry.names]
    assert len(names) == len(set(names))


def test_every_entry_says_everything() -> None:
    gaps = [e.names for e in entries() if len(e.cells) != len(HEADER) or not all(e.cells)]
    assert gaps == []
    assert all(entry.names for entry in entries())


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGE.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


@pytest.mark.parametrize("title", sections())
def test_every_section_has_its_table_and_names_what_it_rests_on(title: str) -> None:
    text = sections()[title]
    assert f"| {' | '.join(HEADER)} |" in text
    assert "Rests on: " in text


def test_figures_on_the_page_are_those_of_the_settings() -> None:
    settings: dict[str, Any] = dict(compose_point("profiler=full").profiler["probes"]["energy"])
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"median of {settings['period_changes']} gaps" in text
    assert f"at least {settings['min_window_s']} s and at least {settings['min_updates']} u" in text
    assert f"at least {settings['windows']} windows" in text
    assert f"none above {settings['max_relative_uncertainty']:.0%}" in text
    assert f"drifted by more than {settings['max_idle_drift']:.0%}" in text
    assert f"over {settings['idle_s']} s after {settings['settle_s']} s of rest" in text
    assert f"{CONFIDENCE:.0%} interval of the median" in text
