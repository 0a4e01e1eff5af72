"""`device=mps` from end to end, with a made-up Metal in the place of an Apple GPU."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.transformers.hooks import MetalClock, clock_for
from profiling.engines.transformers.metal_memory import MetalMemory, metal_memory
from profiling.engines.transformers.optimizations.compile import Compile
from profiling.errors import ConfigError, Unsupported
from profiling.machine import machine, torch_device
from profiling.machine.machine import available_devices, resolve_device, why_no_joules
from profiling.models import model as models
from profiling.records import MEASURED, UNAVAILABLE, summarize
from profiling.runs import experiment
from tests import tiny_models
from tests.composing import compose_point
from tests.tiny_models import take_samples

DEVICE = torch.device("mps")


class FakeMetal:
    """Stands for `torch.mps`: events may be read once the program has synchronized."""

    def __init__(self) -> None:
        self.allocated, self.held = 1000, 5000
        self.waits = 0

    def synchronize(self) -> None:
        self.waits += 1

    def empty_cache(self) -> None:
        self.held = self.allocated

    def current_allocated_memory(self) -> int:
        return self.allocated

    def driver_allocated_memory(self) -> int:
        return self.held

    def _is_in_bad_fork(self) -> bool:
        """Torch then leaves the seed of this device alone."""
        return True

    def Event(self, *, enable_timing: bool) -> FakeEvent:
        assert enable_timing
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, metal: FakeMetal) -> None:
        self.metal = metal

    def record(self) -> None:
        self.moment_s, self.waits = time.perf_counter(), self.metal.waits

    def elapsed_time(self, later: FakeEvent) -> float:
        assert self is not later
        assert max(self.waits, later.waits) < self.metal.waits, "read before the GPU was done"
        return (later.moment_s - self.moment_s) * 1e3


@pytest.fixture
def metal(monkeypatch: pytest.MonkeyPatch) -> FakeMetal:
    """A Mac with an Apple GPU, as far as this project looks."""
    fake = FakeMetal()
    monkeypatch.setattr(torch, "mps", fake)
    monkeypatch.setattr(machine, "torch_has_cuda", lambda: False)
    monkeypatch.setattr(machine, "torch_has_mps", lambda: True)
    monkeypatch.setattr(torch_device.torch.backends.mps, "is_available", lambda: True)
    return fake


# The device


@pytest.mark.usefixtures("metal")
@pytest.mark.parametrize("asked", ["auto", "mps", "mps:0"])
def test_the_gpu_is_found(asked: str) -> None:
    assert available_devices() == ["cpu", "mps"]
    assert resolve_device(asked) == "mps"
    assert resolve_device("cpu") == "cpu"


@pytest.mark.usefixtures("metal")
def test_an_apple_gpu_is_not_cuda() -> None:
    with pytest.raises(ConfigError, match="allowed is one of auto, cpu, mps"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("system", "processor", "has_it"),
    [("darwin", "arm64", True), ("darwin", "x86_64", False), ("linux", "arm64", False)],
)
def test_a_torch_for_apple_silicon_has_metal(
    system: str, processor: str, has_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.sys, "platform", system)
    monkeypatch.setattr(machine.platform, "machine", lambda: processor)
    assert machine.torch_has_mps() is has_it


@pytest.mark.parametrize(
    ("device", "reason"),
    [("mps", "no Metal device"), ("cuda:0", "cannot start CUDA")],
)
def test_a_device_that_torch_cannot_use_is_unsupported(device: str, reason: str) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has such a device")
    point = compose_point("model=llava")
    with pytest.raises(Unsupported, match=f"device={device}: .*{reason}"):
        TransformersEngine.check(replace(point, device=device))


# Clock and memory


def test_the_clock_waits_once(metal: FakeMetal) -> None:
    clock = clock_for(DEVICE)
    assert isinstance(clock, MetalClock)
    first, second = clock.mark(), clock.mark()
    assert metal.waits == 0
    clock.settle()
    assert metal.waits == 1
    assert clock.between_s(first, second) > 0
    assert clock.between_s(first, first) == 0.0


def test_a_peak_between_reset_and_reading_is_seen(metal: FakeMetal) -> None:
    memory = MetalMemory(counts=metal, sample_s=0.0005)
    metal.allocated = 9999
    memory.reset()
    metal.allocated = 1000
    memory.reset()
    assert memory.allocated_bytes() == 1000
    metal.allocated, metal.held = 4000, 7000
    deadline = time.monotonic() + 5
    while memory._allocated < 4000 and time.monotonic() < deadline:
        time.sleep(0.001)
    metal.allocated = 1500
    assert (memory.peak_bytes(), memory.peak_reserved_bytes()) == (4000, 7000)
    assert not [t for t in threading.enumerate() if t.name == "Metal memory"]
    assert "highest of samples" in memory.source


def test_an_error_while_sampling_is_raised_where_the_peak_is_read(metal: FakeMetal) -> None:
    memory = MetalMemory(counts=metal, sample_s=0.0005)
    memory.reset()
    metal.driver_allocated_memory = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        memory.peak_bytes()


def test_other_devices_have_no_metal() -> None:
    assert metal_memory(torch.device("cpu")) is None


# A point


@pytest.fixture
def on_metal(metal: FakeMetal, monkeypatch: pytest.MonkeyPatch) -> TransformersEngine:
    """An engine that says it is on the GPU, while this machine's CPU does the work."""
    engine = tiny_models.build(compose_point("model=llava"))
    engine.model.device = DEVICE
    monkeypatch.setattr(models, "placed", lambda inputs, device, dtype: dict(inputs))
    monkeypatch.setattr(experiment, "place_phases", lambda *_, **__: ())
    return engine


@pytest.mark.slow
def test_a_point_on_metal_has_latency_memory_quality_and_no_joules(
    on_metal: TransformersEngine, metal: FakeMetal
) -> None:
    point = compose_point("model=llava", "profiler=quick", "profiler.repeats=6", "max_new_tokens=4")
    loading = experiment.Loading(load_s=1.0, peak_bytes=1, peak_source="made up")
    loaded = experiment.Loaded(engine=on_metal, loading=loading)
    found = experiment.measure(point, take_samples(2), loaded, lambda _: None)
    rows: dict[str, Any] = {r.metric: r for r in found.readings if r.is_aggregate}
    assert rows["latency_s"].status == MEASURED
    assert "torch.mps.Event" in rows["latency_s"].source
    assert rows["gpu_memory_peak_bytes"].value == metal.allocated
    assert "torch.mps.current_allocated_memory" in rows["peak_memory_bytes"].source
    for metric in ("energy_j", "energy_net_j", "vision_energy_j", "energy_estimate_j"):
        assert rows[metric].status == UNAVAILABLE
        assert rows[metric].source == why_no_joules("mps")
    summary = summarize(found.readings)
    assert summary["wer"] is not None
    assert summary["vision_s"] > 0


def test_compiling_on_metal_takes_the_default_mode(on_metal: TransformersEngine) -> None:
    variant = Compile(kind="compile", order=1, backend="inductor", mode=None)
    variant.apply(on_metal.loaded)
    cache = on_metal.loaded.fixed_cache
    assert cache is not None and cache.compilation is not None
    assert cache.compilation.mode == "default"


@pytest.mark.usefixtures("metal")
@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("optimization=int8",), "bitsandbytes has no kernels for device=mps"),
        (("optimization=flash_attn",), "flash attention needs a GPU, and the device is mps"),
    ],
)
def test_what_metal_lacks_is_unsupported(overrides: tuple[str, ...], reason: str) -> None:
    point = replace(compose_point("model=llava", *overrides), device="mps")
    with pytest.raises(Unsupported, match=reason):
        TransformersEngine.check(point)
