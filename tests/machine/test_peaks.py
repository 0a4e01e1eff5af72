"""Peaks of the device: measured once, kept, and the roof that they make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from profiling.machine import peaks as peaks_module
from profiling.machine.data_sheets import DATA_SHEETS, find_data_sheet
from profiling.machine.peaks import (
    SMALLEST_SIDE,
    Peaks,
    Placement,
    cache_folder,
    find_peaks,
    measure_peaks,
)

CPU = torch.device("cpu")
ROOF = Peaks(
    device_name="NVIDIA H200",
    dtype="bfloat16",
    flops_per_s=800e12,
    bytes_per_s=4e12,
    matmul_size=8192,
    copy_bytes=2**30,
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether others are at work is left to the test that is about it."""
    monkeypatch.setattr(peaks_module, "QUIET_SHARE", 0.0)


def quick(folder: Path) -> Peaks:
    return find_peaks(CPU, torch.float32, folder=folder, target_s=0.002, copy_bytes=2**20)


def test_rates_follow_from_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks_module, "_fastest_s", lambda work, device, target_s: 0.5)
    found = measure_peaks(CPU, torch.float32, target_s=0.1, copy_bytes=2**20)
    assert found.matmul_size == SMALLEST_SIDE
    assert found.flops_per_s == 2 * SMALLEST_SIDE**3 / 0.5
    # A copy reads and writes.
    assert found.bytes_per_s == 2 * 2**20 / 0.5


def test_the_side_with_the_highest_rate_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    times_s = iter([0.001, 0.004, 0.2, 1.0])
    monkeypatch.setattr(peaks_module, "_fastest_s", lambda work, device, target_s: next(times_s))
    found = measure_peaks(CPU, torch.float32, target_s=1.0, copy_bytes=2**20)
    # The second takes four times as long for eight times the work, the third fifty times as long.
    assert found.matmul_size == 2 * SMALLEST_SIDE


def test_peaks_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = quick(tmp_path)
    assert first.flops_per_s > 0 and first.bytes_per_s > 0

    def refuse(*_: object, **__: object) -> Peaks:
        raise AssertionError("measured again")

    monkeypatch.setattr(peaks_module, "measure_peaks", refuse)
    assert quick(tmp_path) == first


def test_a_peak_from_a_busy_machine_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peaks_module, "QUIET_SHARE", 1.1)
    assert quick(tmp_path).flops_per_s > 0
    assert list(tmp_path.iterdir()) == []


def test_another_dtype_is_another_peak(tmp_path: Path) -> None:
    quick(tmp_path)
    find_peaks(CPU, torch.float64, folder=tmp_path, target_s=0.002, copy_bytes=2**20)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("text", ["", "{", json.dumps({"key": {}, "peaks": {}})])
def test_a_torn_or_foreign_file_is_replaced(tmp_path: Path, text: str) -> None:
    quick(tmp_path)
    [kept] = tmp_path.iterdir()
    kept.write_text(text)
    again = quick(tmp_path)
    assert json.loads(kept.read_text())["peaks"]["flops_per_s"] == again.flops_per_s


def test_a_folder_that_cannot_be_written_only_costs_the_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert quick(blocked / "peaks").flops_per_s > 0


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
