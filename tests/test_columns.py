"""The metrics that are recorded, that are declared and that the page explains are the same."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from profiling import metrics
from profiling.engines.engine import Loading
from profiling.engines.transformers.cuda_memory import CudaMemory
from profiling.machine.noise import NoiseGate, NoiseLimits
from profiling.machine.peaks import Peaks
from profiling.metrics import PHASES, TOTAL
from profiling.metrics.catalog import GROUPS, list_own_entries
from profiling.metrics.columns_page import HEADER, write_page
from profiling.models.quantization import Quantization, QuantizedLayers
from profiling.points.point import Point
from profiling.probes import energy
from profiling.probes.codecarbon_estimate import ModelledEnergy
from profiling.probes.flops import FlopsProbe
from profiling.probes.memory import GpuPeak
from profiling.quality import Answered, find_applicable, score
from profiling.records import Reading
from profiling.runs import experiment
from profiling.runs.tracing import trace_pass
from profiling.samples.samples import load_samples
from profiling.selfcheck import energy as energy_check
from profiling.selfcheck.memory import SimulatedAllocator
from profiling.selfcheck.simulated import FakeNvml, PhasedLoad, RaplTree, World
from profiling.statistics.intervals import CONFIDENCE
from tests.composing import PROJECT
from tests.engines.endpoint.recorded import from_a_server
from tests.tiny_models import build, compose_point, make_workload
from tests.tiny_models import load as load_tiny

PAGE = Path(__file__).resolve().parent.parent / "docs" / "columns.md"
CAPTION = Answered(id="0", answer="a red box", references=("a red box", "the box"))
OTHER = Answered(id="1", answer="2", references=("2", "2"))
# Recorded only by engines whose package is an extra; the slow tests of these engines read them.
OF_EXTRAS = {"num_kept_compilations"}


# What is recorded


@cache
def quick_point() -> Point:
    settings = ("profiler=quick", "num_samples=2", "max_new_tokens=4", "profiler.repeats=3")
    return compose_point(*settings)


@cache
def quick_run() -> list[Reading]:
    point = quick_point()
    samples = load_samples(Path(point.dataset_folder), count=2, at_most=None)
    loaded = experiment.load(point)
    return experiment.measure(point, samples, loaded, lambda phase: None).readings


def judged() -> Iterator[Reading]:
    for accuracy in (None, "vqa", "option"):
        yield from score([CAPTION, OTHER], headline="first", accuracy=accuracy)


def cross_checked() -> Iterator[Reading]:
    workload = make_workload(load_tiny("llava"), batch_size=1, max_new_tokens=3, count=1)
    yield from FlopsProbe(cross_check=True).measure(workload)


def traced() -> Iterator[Reading]:
    workload = make_workload(load_tiny("llava"), batch_size=1, max_new_tokens=2, count=1)
    yield from trace_pass(workload).readings


def made_otherwise() -> Iterator[Reading]:
    """The readings of variants that are made from the plain model."""
    traced = ("optimization=compile", "optimization.compile.backend=aot_eager")
    engine = build(compose_point(*traced))
    engine.loaded.build.add(make_s=1.0, make_peak_bytes=None, artifact_bytes=1.0)
    engine.model.quantized = QuantizedLayers(
        names=("a",), share=0.5, made_s=1.0, quantization=Quantization(bits=4)
    )
    workload = make_workload(engine, batch_size=1, max_new_tokens=2, count=1)
    engine.settle(workload)
    loading = Loading(load_s=1.0, peak_bytes=1, peak_source="told")
    yield from engine.readings(workload, loading)
    few = (f"optimization.awq.{one}=1" for one in ("calibration", "rows", "steps"))
    yield from build(compose_point("optimization=awq", *few)).readings(workload, loading)
    for name in ("vision_cache", "token_pruning", "prompt_lookup"):
        yield from build(compose_point(f"optimization={name}")).answered()


def on_a_simulated_gpu(folder: Path) -> Iterator[Reading]:
    """The readings that only a machine with a GPU and with RAPL has."""
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
    board = CudaMemory(counts=SimulatedAllocator(), device=None)
    yield from GpuPeak(accelerator=board).readings()
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
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Reading]:
    """Every metric that a run can leave behind, here or on a machine with more instruments."""
    folder = tmp_path_factory.mktemp("columns")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        readings = [
            *quick_run(),
            *judged(),
            *cross_checked(),
            *traced(),
            *made_otherwise(),
            *on_a_simulated_gpu(folder / "powercap"),
            *from_a_server(),
        ]
    return readings


# The declarations


def test_every_reading_has_the_unit_and_phase_of_its_metric(recorded: list[Reading]) -> None:
    wrong = []
    for row in recorded:
        declared = metrics.find(row.metric)
        phases = {*PHASES, TOTAL} if row.repeat is not None else {declared.phase}
        if row.unit != declared.unit or row.phase not in phases:
            wrong.append((row.metric, row.phase, row.unit))
    assert wrong == []


def test_every_metric_that_is_declared_is_recorded(recorded: list[Reading]) -> None:
    found = {row.metric for row in recorded}
    declared = [one for group in GROUPS for entry in group.entries for one in entry.metrics]
    patterns = {metric.name: {one.name for one in metric.expand()} for metric in declared}
    stale = {
        name
        for name, expanded in patterns.items()
        if metrics.find(min(expanded)).has_rows and not expanded & found
    }
    assert stale == OF_EXTRAS


def test_a_run_has_a_row_for_every_metric_that_applies() -> None:
    point = quick_point()
    suitable = find_applicable(headline=point.headline_reference, accuracy=point.accuracy)
    rows = {row.metric for row in quick_run()}
    missing = metrics.expected(point.as_config(), text_metrics=suitable) - rows
    assert missing == set()


# The page


def test_the_page_is_that_of_the_declarations() -> None:
    """`python -m profiling.metrics > docs/columns.md` makes it again.

    A text metric that declares itself in its own file may stand on it, and need not.
    """
    assert PAGE.read_text(encoding="utf-8") in (write_page(()), write_page(list_own_entries()))


def test_the_page_can_be_printed() -> None:
    command = [sys.executable, "-m", "profiling.metrics"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == write_page(list_own_entries())


def test_every_cell_of_the_page_is_filled() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert {len(row) for row in cells} == {len(HEADER)}
    assert all(cell for row in cells for cell in row)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGE.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


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
