"""Phases under the roof of their device, and what is no share of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from profiling.machine.noise import NoiseLimits
from profiling.machine.peaks import NoPeaks, Peaks
from profiling.probes import roofline
from profiling.probes.roofline import place_phases
from profiling.records import UNAVAILABLE, Reading
from tests.composing import compose_point
from tests.tiny_models import load, make_workload

ROOF = Peaks(
    device_name="a device",
    dtype="float32",
    flops_per_s=1e12,
    bytes_per_s=1e11,
    matmul_shape=(64, 64, 64),
    threads=1,
    copy_bytes=1,
)

LIMITS = NoiseLimits(**compose_point("profiler=quick").profiler["noise"])


def known(metric: str, value: float) -> Reading:
    return Reading(
        phase="x", metric=metric, value=value, unit="x", status="measured", source="a test"
    )


def place(monkeypatch: pytest.MonkeyPatch, peaks: Peaks, *readings: Reading) -> dict[str, Reading]:
    return place_with(monkeypatch, lambda *_, **__: peaks, *readings)


def place_with(
    monkeypatch: pytest.MonkeyPatch, find: Callable[..., Peaks], *readings: Reading, model: str = ""
) -> dict[str, Reading]:
    monkeypatch.setattr(roofline, "find_peaks", find)
    overrides = [model] if model else []
    workload = make_workload(load("llava", *overrides), batch_size=1, max_new_tokens=4, count=1)
    found = place_phases(workload, readings, limits=LIMITS, target_s=0.1, copy_bytes=1)
    return {reading.metric: reading for reading in found}


def test_the_highest_rate_of_a_phase_is_what_a_peak_must_exceed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    def find(*_: object, reached_flops_per_s: float, **__: object) -> Peaks:
        asked.append(reached_flops_per_s)
        return ROOF

    readings = [
        *(known("flops_prefill", 1e9), known("prefill_s", 0.01)),
        *(known("flops_vision", 6e9), known("vision_s", 0.02), known("flops_decode", 1e12)),
    ]
    place_with(monkeypatch, find, *readings)
    # These do other arithmetic than is counted, or none for a picture that was seen before.
    place_with(monkeypatch, find, *readings, model="optimization=int8")
    place_with(monkeypatch, find, *readings, model="optimization=vision_cache")
    assert asked == pytest.approx([3e11, 0.0, 0.0])


def test_without_peaks_there_are_no_shares_and_the_reason_stands_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(*_: object, **__: object) -> Peaks:
        raise NoPeaks("the machine was busy")

    found = place_with(monkeypatch, find, known("flops_prefill", 1e9), known("prefill_s", 0.01))
    for metric in ("peak_flops_per_s", "peak_bytes_per_s", "mfu_prefill", "mbu_prefill"):
        assert (found[metric].value, found[metric].status) == (None, UNAVAILABLE)
        assert "the machine was busy" in found[metric].source
    assert found["least_prefill_s"].status == UNAVAILABLE
    assert found["intensity_prefill"].value == pytest.approx(
        1e9 / (found["moved_prefill_bytes"].value or 0)
    )


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
