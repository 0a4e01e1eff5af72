"""Checks this machine: clock, counters, peaks, and current load."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch

from profiling.engines.transformers.hooks import clock_for
from profiling.machine.clock import Time
from profiling.machine.data_sheets import find_data_sheet
from profiling.machine.machine import gpu_uuid, torch_has_cuda
from profiling.machine.noise import NoiseGate, NoiseLimits
from profiling.machine.nvml import board_of
from profiling.machine.peaks import Peaks, measure_peaks
from profiling.machine.resident import SELF, read_resident_bytes, reset_high_water_mark
from profiling.probes.codecarbon_estimate import MISSING, CodeCarbonEstimate
from profiling.probes.energy_window import Counter, measure_update_period
from profiling.probes.instruments import Instruments, open_instruments
from profiling.selfcheck.finding import Finding, cannot, compare, judge

COARSEST_TICK_S = 1e-5
READS = 100_000
# Network time synchronization may change the rate of a clock by 0.05%.
RATE_TOLERANCE = 1e-3
ABOVE_SHEET = 1.05
LARGEST_POWER_W = 2000.0
EVENT_TOLERANCE = 0.05


# The clock


def check_clock(*, seconds: float) -> Iterator[Finding]:
    reads_ns = [time.perf_counter_ns() for _ in range(READS)]
    gaps_s = [(after - before) * 1e-9 for before, after in pairwise(reads_ns)]
    tick_s = min((gap for gap in gaps_s if gap > 0), default=float("inf"))
    yield judge(
        "clock: finest step",
        expected=f"under {COARSEST_TICK_S:g} s",
        found=f"{tick_s:.2g} s",
        right=tick_s <= COARSEST_TICK_S,
    )
    yield judge(
        f"clock: never goes back in {READS:,} reads",
        expected="0 times",
        found=f"{sum(gap < 0 for gap in gaps_s)} times",
        right=min(gaps_s) >= 0,
    )
    yield _check_rate(seconds)


def _check_rate(seconds: float) -> Finding:
    """Compare with the raw oscillator, which is not adjusted."""
    name = "clock: seconds by the raw oscillator"
    if not hasattr(time, "CLOCK_MONOTONIC_RAW"):
        return cannot(name, expected="the same", why="this system has no raw clock to compare")
    begun_s, begun_raw_s = time.perf_counter(), time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
    time.sleep(seconds)
    raw_s = time.clock_gettime(time.CLOCK_MONOTONIC_RAW) - begun_raw_s
    found_s = time.perf_counter() - begun_s
    return compare(name, expected=raw_s, found=found_s, unit="s", tolerance=RATE_TOLERANCE)


def check_event_clock(device: str, *, seconds: float) -> Iterator[Finding]:
    """Compare a GPU's events with the host's clock, with synchronizations before and after."""
    name = "clock: the GPU's events by the host's clock"
    if device == "cpu":
        yield cannot(name, expected="the same", why=no_gpu())
        return
    found = torch.device(device)
    clock = clock_for(found)
    left = torch.randn(2048, 2048, device=found)
    left @ left
    clock.settle()
    begun_s, begun = time.perf_counter(), clock.mark()
    while time.perf_counter() - begun_s < seconds:
        left @ left
    ended = clock.mark()
    clock.settle()
    host_s = time.perf_counter() - begun_s
    yield compare(
        name,
        expected=host_s,
        found=clock.between_s(begun, ended),
        unit="s",
        tolerance=EVENT_TOLERANCE,
    )


def no_gpu() -> str:
    if not torch_has_cuda():
        return "the torch installed here is built without CUDA"
    return "no NVIDIA GPU is visible, or the CPU was asked for"


# Instruments


def check_instruments(device: str, settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Energy counters and kernel counters: each works, or is listed with what is missing."""
    sample_s = settings["power_sample_s"]
    with open_instruments(gpu_uuid(device), power_sample_s=sample_s) as instruments:
        yield from _check_counters(instruments, settings)
    yield _check_codecarbon()
    yield _check_high_water_mark()
    yield _check_pressure()


def _check_counters(instruments: Instruments, settings: Mapping[str, Any]) -> Iterator[Finding]:
    for counter in instruments.ordered():
        yield _check_counter(counter, settings)
    for component, reason in instruments.missing.items():
        yield cannot(f"energy counter: {component}", expected="moves", why=reason)


def _check_counter(counter: Counter, settings: Mapping[str, Any]) -> Finding:
    """The counter moves, at a plausible power."""
    begun_s, begun_j = time.perf_counter(), counter.read_j()
    period_s = measure_update_period(
        counter,
        changes=settings["period_changes"],
        timeout_s=settings["period_timeout_s"],
        time=Time(),
    )
    power_w = (counter.read_j() - begun_j) / (time.perf_counter() - begun_s)
    moves = f"every {period_s:.3g} s" if period_s else "too rarely to measure a period"
    return judge(
        f"energy counter: {counter.component}",
        expected=f"0 to {LARGEST_POWER_W:,.0f} W",
        found=f"{power_w:.3g} W",
        right=0 < power_w < LARGEST_POWER_W,
        why=f"{counter.source}; moves {moves}",
    )


def _check_codecarbon() -> Finding:
    name = "energy estimate: CodeCarbon"
    if not CodeCarbonEstimate.is_installed():
        return cannot(name, expected="installed", why=MISSING)
    return judge(name, expected="installed", found="installed", right=True)


def _check_high_water_mark() -> Finding:
    name = "kernel: peak of resident memory"
    if not reset_high_water_mark(SELF):
        why = "the kernel does not allow a reset here: peaks are sampled, short ones are missed"
        return cannot(name, expected="can be reset", why=why)
    resident = read_resident_bytes(SELF)
    return judge(name, expected="can be reset", found=f"reset to {resident:,} B", right=True)


def _check_pressure() -> Finding:
    name, path = "kernel: CPU pressure (PSI)", "/proc/pressure/cpu"
    if not os.access(path, os.R_OK):
        why = f"{path} does not exist: boot with psi=1; other signs show a busy machine"
        return cannot(name, expected="is counted", why=why)
    return judge(name, expected="is counted", found="is counted", right=True)


# Noise


def check_noise(device: str, limits: Mapping[str, Any], *, seconds: float) -> Iterator[Finding]:
    """Keep a core busy for a while and check whether times measured now would be trusted."""
    name = "noise gate, now"
    with board_of(gpu_uuid(device)) as board:
        gate = NoiseGate(limits=NoiseLimits(**limits), board=board, cpu_bound=True)
        with gate:
            _stay_busy(seconds)
    if gate.noisy:
        why = f"times measured now would be marked noisy: {gate.reason}"
        yield cannot(name, expected="quiet", found="noisy", why=why)
        return
    yield judge(name, expected="quiet", found="quiet", right=True)


def _stay_busy(seconds: float) -> None:
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        pass


# Peaks


def check_peaks(device: str, dtype: torch.dtype, settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Measure the peaks and compare them with the data sheet: nothing runs faster."""
    wanted = {name: settings[name] for name in ("target_s", "copy_bytes")}
    yield from judge_peaks(measure_peaks(torch.device(device), dtype, **wanted))


def judge_peaks(peaks: Peaks) -> Iterator[Finding]:
    sheet = find_data_sheet(peaks.device_name)
    promised = {
        "FLOP/s": sheet.flops_per_s.get(peaks.dtype) if sheet else None,
        "B/s": sheet.bytes_per_s if sheet else None,
    }
    measured = {"FLOP/s": peaks.flops_per_s, "B/s": peaks.bytes_per_s}
    for unit, limit in promised.items():
        name = f"peak {unit}, {peaks.dtype}"
        found = f"{measured[unit]:.3g} {unit}"
        if limit is None:
            why = f"no data sheet of {peaks.device_name} is known, or none for this dtype"
            yield cannot(name, expected="the data sheet", found=found, why=why)
            continue
        assert sheet is not None
        yield judge(
            name,
            expected=f"at most {limit:.3g} {unit}",
            found=found,
            right=measured[unit] <= ABOVE_SHEET * limit,
            why=f"{measured[unit] / limit:.0%} of {sheet.document}",
        )
