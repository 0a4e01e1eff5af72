"""Phases under the roof of their device, and what is no share of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiling.machine.peaks import Peaks
from profiling.probes import roofline
from profiling.probes.roofline import place_phases
from profiling.records import UNAVAILABLE, Reading
from tests.tiny_models import load, make_workload

ROOF = Peaks(
    device_name="a device",
    dtype="float32",
    flops_per_s=1e12,
    bytes_per_s=1e11,
    matmul_size=64,
    copy_bytes=1,
)


def known(metric: str, value: float) -> Reading:
    return Reading(
        phase="x", metric=metric, value=value, unit="x", status="measured", source="a test"
    )


def place(monkeypatch: pytest.MonkeyPatch, peaks: Peaks, *readings: Reading) -> dict[str, Reading]:
    monkeypatch.setattr(roofline, "find_peaks", lambda *_, **__: peaks)
    workload = make_workload(load("llava"), batch_size=1, max_new_tokens=4, count=1)
    found = place_phases(workload, readings, target_s=0.1, copy_bytes=1)
    return {reading.metric: reading for reading in found}


def test_shares_are_those_of_the_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = place(monkeypatch, ROOF, known("flops_prefill", 1e9), known("prefill_s", 0.01))
    assert found["mfu_prefill"].value == pytest.approx(0.1)
    moved = found["moved_prefill_bytes"].value
    assert moved
    assert found["mbu_prefill"].value == pytest.approx(moved / 1e11 / 0.01)
    assert found["intensity_prefill"].value == pytest.approx(1e9 / moved)
    assert found["least_prefill_s"].value == pytest.approx(max(1e-3, moved / 1e11))


def test_more_than_the_whole_peak_is_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = replace(ROOF, flops_per_s=1e9, bytes_per_s=1e6)
    found = place(monkeypatch, slow, known("flops_prefill", 1e9), known("prefill_s", 0.01))
    for metric, reason in (("mfu_prefill", "highest rate"), ("mbu_prefill", "cache")):
        assert (found[metric].value, found[metric].status) == (None, UNAVAILABLE)
        assert reason in found[metric].source


def test_a_phase_of_unknown_time_is_not_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = place(monkeypatch, ROOF, known("flops_prefill", 1e9))
    assert found["mfu_prefill"].status == UNAVAILABLE
