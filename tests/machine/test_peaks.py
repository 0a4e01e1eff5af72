"""Peaks of the device: measured undisturbed, kept, and the roofline that they make."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from profiling.machine import peaks as peaks_module
from profiling.machine.data_sheets import DATA_SHEETS, find_data_sheet
from profiling.machine.noise import NoiseLimits
from profiling.machine.peaks import (
    LAYERS,
    LEAST_TIMINGS,
    MOST_TIMINGS,
    SQUARES,
    NoPeaks,
    Peaks,
    Placement,
    Product,
    cache_folder,
    find_peaks,
    measure_peaks,
)
from tests.composing import compose_point

CPU = torch.device("cpu")
LIMITS = NoiseLimits(**compose_point("profiler=quick").profiler["noise"])
ROOF = Peaks(
    device_name="NVIDIA H200",
    dtype="bfloat16",
    flops_per_s=800e12,
    bytes_per_s=4e12,
    matmul_shape=(8192, 8192, 8192),
    threads=None,
    copy_bytes=2**30,
)


class FakeGate:
    """A noise gate that finds what a test says."""

    reason: str | None = None

    def __init__(self, **_: object) -> None:
        pass

    def __enter__(self) -> FakeGate:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Measuring:
    """Stands for the measurement: counts how often it is made, and gives what a test says."""

    def __init__(self) -> None:
        self.times = 0
        self.found = ROOF

    def __call__(self, *_: object, **__: object) -> Peaks:
        self.times += 1
        return self.found


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> Measuring:
    made = Measuring()
    monkeypatch.setattr(peaks_module, "measure_peaks", made)
    monkeypatch.setattr(peaks_module, "NoiseGate", FakeGate)
    monkeypatch.setattr(FakeGate, "reason", None)
    return made


def find(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    reached: float = 0.0,
    target_s: float = 0.002,
    copy_bytes: int = 2**20,
) -> Peaks:
    return find_peaks(
        "cpu",
        str(dtype).removeprefix("torch."),
        folder=folder,
        target_s=target_s,
        copy_bytes=copy_bytes,
        limits=LIMITS,
        reached_flops_per_s=reached,
    )


# Measuring


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pretend_rates(
    monkeypatch: pytest.MonkeyPatch, rate: Callable[[tuple[int, ...], int], float]
) -> list[tuple[int, ...]]:
    """Have products reach FLOP/s by shape and threads; the list fills with what was timed."""
    timed: list[tuple[int, ...]] = []

    def time_product(shape: tuple[int, int, int], *_: object) -> Product:
        timed.append(shape)
        threads = torch.get_num_threads()
        flops = 2 * shape[0] * shape[1] * shape[2]
        return Product(shape=shape, threads=threads, seconds=flops / rate(shape, threads))

    monkeypatch.setattr(peaks_module, "_time_product", time_product)
    monkeypatch.setattr(peaks_module, "_time_copy", lambda *_: 0.5)
    return timed


def measure(target_s: float) -> Peaks:
    return measure_peaks(CPU, torch.float32, target_s=target_s, copy_bytes=2**20)


def test_rates_follow_from_the_times(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setattr(peaks_module, "_fastest_s", lambda work, device, target_s: 0.5)
    found = measure(0.1)
    # All that was surely tried took equally long: the largest has the highest rate.
    assert found.matmul_shape == (256, 256, 256)
    assert found.flops_per_s == 2 * 256**3 / 0.5
    # A copy reads and writes.
    assert found.bytes_per_s == 2 * 2**20 / 0.5


def test_few_rows_win_where_they_are_fastest(
    monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    timed = pretend_rates(
        monkeypatch, lambda shape, _: 2e12 if shape[0] == 256 < shape[1] else 1e12
    )
    found = measure(1.0)
    assert (found.matmul_shape, found.flops_per_s) == ((256, 2048, 8192), 2e12)
    assert set(LAYERS) < set(timed)


def test_no_shape_is_timed_that_would_take_too_long(
    monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    timed = pretend_rates(monkeypatch, lambda *_: 1e12)
    measure(0.1)
    largest = max(2 * rows * inputs * outputs for rows, inputs, outputs in timed)
    assert largest * LEAST_TIMINGS <= 0.1 * 1e12
    assert (2048, 2048, 2048) in timed and (4096, 4096, 4096) not in timed


def test_a_small_product_that_was_interrupted_does_not_end_the_search(
    monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    pretend_rates(monkeypatch, lambda shape, _: 13e6 if shape == SQUARES[0] else 1e12)
    assert measure(0.1).flops_per_s == 1e12


def test_half_of_the_threads_win_where_they_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = 4
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)

    def set_threads(count: int) -> None:
        nonlocal threads
        threads = count

    monkeypatch.setattr(torch, "set_num_threads", set_threads)
    pretend_rates(monkeypatch, lambda _, count: 4e12 / count)
    found = measure(0.1)
    assert (found.threads, found.flops_per_s) == (2, 2e12)
    assert threads == 4


def test_one_interrupted_run_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    times_s = iter([9.0, 9.0, 9.0, 0.001, *[0.002] * 100])
    monkeypatch.setattr(peaks_module, "_timed_s", lambda *_: next(times_s))
    assert peaks_module._fastest_s(lambda: None, CPU, 0.1) == 0.001


def test_timings_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    timings: list[float] = []

    def timed_s(*_: object) -> float:
        timings.append(1e-9)
        return timings[-1]

    monkeypatch.setattr(peaks_module, "_timed_s", timed_s)
    peaks_module._fastest_s(lambda: None, CPU, 1.0)
    assert len(timings) == MOST_TIMINGS + 1


def test_this_machine_has_peaks_that_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peaks_module, "NoiseGate", FakeGate)
    found = find(tmp_path)
    assert found.flops_per_s > 0 and found.bytes_per_s > 0
    monkeypatch.setattr(peaks_module, "measure_peaks", lambda *_, **__: pytest.fail("again"))
    assert find(tmp_path) == found


# What is kept


def test_peaks_are_measured_once(tmp_path: Path, measuring: Measuring) -> None:
    assert find(tmp_path) == find(tmp_path) == ROOF
    assert measuring.times == 1


def test_another_dtype_is_another_peak(tmp_path: Path, measuring: Measuring) -> None:
    find(tmp_path)
    find(tmp_path, dtype=torch.float64)
    assert measuring.times == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_a_peak_from_a_busy_machine_is_not_kept(
    tmp_path: Path, measuring: Measuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeGate, "reason", "other processes used 62% of the CPU")
    with pytest.raises(NoPeaks, match=r"busy.*other processes used 62% of the CPU"):
        find(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(FakeGate, "reason", None)
    assert find(tmp_path) == ROOF
    assert measuring.times == 2


def test_peaks_of_another_measurement_are_not_taken(tmp_path: Path, measuring: Measuring) -> None:
    find(tmp_path)
    longer = replace(ROOF, flops_per_s=2 * ROOF.flops_per_s)
    measuring.found = longer
    assert find(tmp_path, target_s=1.0) == longer
    assert find(tmp_path) == ROOF
    assert measuring.times == 2
    find(tmp_path, copy_bytes=2**21)
    assert measuring.times == 3


def test_what_is_kept_holds_on_a_busy_machine(
    tmp_path: Path, measuring: Measuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(tmp_path)
    monkeypatch.setattr(FakeGate, "reason", "busy")
    assert find(tmp_path) == ROOF


def test_a_peak_that_a_phase_exceeds_is_measured_again(
    tmp_path: Path, measuring: Measuring
) -> None:
    measuring.found = replace(ROOF, flops_per_s=13e6)
    find(tmp_path)
    with pytest.raises(NoPeaks, match=r"1\.3e\+07 FLOP/s, a phase of this run 2e\+11 FLOP/s"):
        find(tmp_path, reached=2e11)
    measuring.found = ROOF
    assert find(tmp_path, reached=2e11) == ROOF
    # What is kept since then is the second.
    assert find(tmp_path) == ROOF
    assert measuring.times == 3


def test_a_peak_that_a_phase_exceeds_is_not_kept(tmp_path: Path, measuring: Measuring) -> None:
    measuring.found = replace(ROOF, flops_per_s=13e6)
    find(tmp_path)
    with pytest.raises(NoPeaks):
        find(tmp_path, reached=2e11)
    assert list(tmp_path.iterdir()) == []


# Damage


def write_text(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def change(**values: Any) -> Callable[[Path], object]:
    """Another value in the file as it was written."""

    def damage(path: Path) -> None:
        kept = json.loads(path.read_text())
        kept["peaks"] |= values
        path.write_text(json.dumps(kept))

    return damage


def leave_out(path: Path) -> None:
    kept = json.loads(path.read_text())
    del kept["peaks"]["bytes_per_s"]
    path.write_text(json.dumps(kept))


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": write_text(""),
    "truncated": lambda path: path.write_text(path.read_text()[:50]),
    "another's": write_text(json.dumps({"key": {}, "peaks": {}})),
    "a list": write_text("[1, 2]"),
    "nested": write_text("[" * 50_000),
    "no peaks": lambda path: path.write_text(
        json.dumps({"key": json.loads(path.read_text())["key"]})
    ),
    "a value missing": leave_out,
    "a value too many": change(colour="red"),
    "rate as text": change(flops_per_s="800"),
    "rate as list": change(bytes_per_s=[1.0]),
    "rate true": change(flops_per_s=True),
    "name as number": change(device_name=7),
    "shape as text": change(matmul_shape="abc"),
    "shape too short": change(matmul_shape=[1, 2]),
    "threads as text": change(threads="two"),
    "zero": change(flops_per_s=0),
    "negative": change(bytes_per_s=-4e12),
    "not a number": change(flops_per_s=float("nan")),
    "infinite": change(flops_per_s=float("inf")),
    "folder": put_folder,
    "fifo": put_fifo,
    "endless": lambda path: path.write_text(path.read_text() + " " * 2**17),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "unreadable": link_to_itself,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_means_measuring_again(
    tmp_path: Path, measuring: Measuring, damage: Callable[[Path], object]
) -> None:
    find(tmp_path)
    [kept] = tmp_path.iterdir()
    damage(kept)
    assert find(tmp_path) == ROOF
    assert measuring.times == 2
    if not kept.is_dir():
        assert find(tmp_path) == ROOF
        assert measuring.times == 2
    assert list(tmp_path.iterdir()) == [kept]


def test_a_file_that_may_not_be_read_means_measuring_again(
    tmp_path: Path, measuring: Measuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(tmp_path)

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert find(tmp_path) == ROOF
    assert measuring.times == 2


def test_a_folder_that_cannot_be_written_only_costs_the_time(
    tmp_path: Path, measuring: Measuring
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert find(blocked / "peaks") == ROOF


def test_a_file_that_cannot_be_finished_is_not_left_behind(
    tmp_path: Path, measuring: Measuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert find(tmp_path) == ROOF
    assert list(tmp_path.iterdir()) == []


def test_the_cache_follows_the_xdg_convention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "vlm-profiling" / "peaks"


# Data sheets


@pytest.mark.parametrize("name", ["NVIDIA A10G", "NVIDIA H200 MIG 1g.18gb", "AMD EPYC", ""])
def test_a_name_that_is_nearly_known_has_no_data_sheet(name: str) -> None:
    assert find_data_sheet(name) is None


def test_every_data_sheet_is_plausible() -> None:
    for name, sheet in DATA_SHEETS.items():
        assert sheet.flops_per_s["float16"] > sheet.flops_per_s["float32"] > 1e12, name
        assert 1e11 < sheet.bytes_per_s < 1e13, name
        assert sheet.document.startswith("NVIDIA "), name


def test_readings_hold_the_data_sheet_beside_the_measurement() -> None:
    found = {reading.metric: reading for reading in ROOF.readings()}
    assert found["peak_flops_per_s"].value == 800e12
    assert found["peak_flops_per_s_data_sheet"].value == 989.5e12
    assert found["peak_bytes_per_s_data_sheet"].value == 4.8e12
    assert "H200" in found["peak_flops_per_s_data_sheet"].source


# The roof


def test_a_phase_under_the_roof() -> None:
    prefill = Placement(flops=80e12, moved_bytes=0.2e12, duration_s=0.25, peaks=ROOF)
    assert prefill.bound_by == "compute"
    assert prefill.lower_bound_s == pytest.approx(0.1)
    assert prefill.flops_utilization == pytest.approx(0.4)
    assert prefill.bandwidth_utilization == pytest.approx(0.2)
    assert prefill.intensity == pytest.approx(400)
    decode = Placement(flops=1e9, moved_bytes=8e9, duration_s=0.004, peaks=ROOF)
    assert decode.bound_by == "memory"
    assert decode.lower_bound_s == pytest.approx(0.002)
    assert decode.bandwidth_utilization == pytest.approx(0.5)


positive = st.floats(1e3, 1e15)


@given(positive, positive, st.floats(1e-6, 1e3))
def test_utilization_and_bound_are_one_law(
    flops: float, moved_bytes: float, duration_s: float
) -> None:
    phase = Placement(flops=flops, moved_bytes=moved_bytes, duration_s=duration_s, peaks=ROOF)
    highest = max(phase.flops_utilization, phase.bandwidth_utilization)
    assert highest * duration_s == pytest.approx(phase.lower_bound_s)
    # The ridge: what has more FLOP a byte than the device is bound by compute.
    ridge = ROOF.flops_per_s / ROOF.bytes_per_s
    if phase.intensity != pytest.approx(ridge):
        assert (phase.bound_by == "compute") == (phase.intensity > ridge)
