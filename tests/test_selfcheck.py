"""The self-check passes what is right, and finds what was broken on purpose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.costs import counting as flop_counting
from profiling.costs import twin
from profiling.engines.trace import HostClock, Trace
from profiling.engines.transformers import held_memory
from profiling.engines.transformers import hooks as phases
from profiling.engines.transformers.hooks import EventClock
from profiling.machine import peak_watch, rapl
from profiling.machine.peaks import Peaks
from profiling.probes import energy_window
from profiling.probes.energy_window import Meter, Window
from profiling.selfcheck import (
    coverage,
    energy,
    flops,
    generation,
    latency,
    machine,
    quality,
    scripted,
)
from profiling.selfcheck import memory as memory_check
from profiling.selfcheck.__main__ import QUICK, list_checks, main, report
from profiling.selfcheck.finding import CANNOT, OFF, OK, Finding, cannot, compare, judge, perform
from profiling.selfcheck.simulated import PhasedLoad
from profiling.selfcheck.tiny import compose, default_family
from profiling.statistics.intervals import Interval
from profiling.statistics.medians import bound_median

# Their verdict hangs on how busy the machine is, so that no fast test relies on them.
TIMED = {"clock", "latency, host", "overhead"}
PROFILER = compose(profiler="quick")["profiler"]
SETTINGS: dict[str, Any] = PROFILER["probes"]


def verdicts(findings: Iterable[Finding]) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in findings}


def broken(findings: Iterable[Finding]) -> set[str]:
    return {check for check, verdict in verdicts(findings).items() if verdict == OFF}


@cache
def untimed_findings() -> tuple[Finding, ...]:
    checks = list_checks("cpu", QUICK)
    assert checks.keys() >= TIMED
    return tuple(f for name, check in checks.items() if name not in TIMED for f in check())


# As it is


def test_nothing_is_off() -> None:
    assert broken(untimed_findings()) == set()


def test_what_cannot_be_measured_says_why() -> None:
    assert all(finding.why for finding in untimed_findings() if finding.verdict == CANNOT)


def test_no_two_findings_share_a_name() -> None:
    names = [finding.check for finding in untimed_findings()]
    assert len(names) == len(set(names))


def test_every_probe_is_checked() -> None:
    names = [name.lower() for name in list_checks("cpu", QUICK)]
    assert [p for p in SETTINGS if not any(name.startswith(p) for name in names)] == []


@pytest.mark.slow
def test_the_command_passes_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--device", "cpu"]) == 0
    assert ", 0 off, " in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_command_passes_on_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--device", "cuda"]) == 0
    assert "no GPU is used here" not in capsys.readouterr().out


# The exit status


def right() -> Iterator[Finding]:
    yield judge("a", expected="x", found="x", right=True)
    yield cannot("b", expected="x", why="there is no instrument")


def wrong() -> Iterator[Finding]:
    yield judge("c", expected="x", found="y", right=False)


def crashing() -> Iterator[Finding]:
    raise ZeroDivisionError("by\nzero")


def test_what_cannot_be_measured_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert report({"right": right}) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 ok, 0 off, 1 cannot be measured here"


@pytest.mark.parametrize("check", [wrong, crashing])
def test_one_that_is_off_is_a_failure(
    check: Callable[[], Iterator[Finding]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert report({"right": right, "bad": check, "again": right}) == 1
    assert "2 ok, 1 off, 2 cannot" in capsys.readouterr().out


def test_a_check_that_crashes_names_what_with() -> None:
    (finding,) = perform("division", crashing)
    assert (finding.check, finding.verdict) == ("division", OFF)
    assert (finding.found, finding.why) == ("ZeroDivisionError", "by zero")


def test_a_device_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--device", "cuda:99"])
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("device=cuda:99: ")


@pytest.mark.parametrize(
    ("found", "verdict"), [(100.0, OK), (102.0, OK), (98.0, OK), (102.1, OFF), (None, OFF)]
)
def test_numbers_are_held_to_their_tolerance(found: float | None, verdict: str) -> None:
    finding = compare("x", expected=100.0, found=found, unit="J", tolerance=0.02)
    assert finding.verdict == verdict
    assert bool(finding.why) == (verdict == OFF)


# Latency: a law


@given(st.fixed_dictionaries({name: st.floats(1e-6, 10.0) for name in scripted.SCRIPT_S}))
@settings(max_examples=25, deadline=None)
def test_phases_add_up_to_the_whole_whatever_they_take(script_s: dict[str, float]) -> None:
    gpu = scripted.SimulatedGpu(script_s=script_s)
    workload = scripted.ScriptedWorkload(stage=gpu)
    timing = workload.run_timed(0)
    (spent,) = gpu.passes
    assert sum(timing.phases_s.values()) == pytest.approx(timing.latency_s)
    assert timing.latency_s == pytest.approx(sum(spent.values()))
    assert timing.phases_s["vision"] == pytest.approx(script_s["vision"], abs=1e-9)
    assert timing.ttft_s is not None and timing.ttft_s <= timing.latency_s


# Latency, broken


def check_events() -> set[str]:
    return broken(
        perform("events", lambda: latency.check_on_events(SETTINGS["latency"], repeats=3))
    )


def miscount_tokens(patch: pytest.MonkeyPatch, step: int = 1) -> None:
    timing = Trace.timing

    def miscount(self: Trace, *args: Any) -> Any:
        counted = timing(self, *args)
        return replace(counted, num_tokens=counted.num_tokens + step)

    patch.setattr(Trace, "timing", miscount)


@pytest.mark.parametrize("step", [-1, 1])
def test_a_token_too_many_or_too_few_is_found(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    miscount_tokens(monkeypatch, step)
    assert check_events() == {"latency, events: tokens_per_s"}
    off = broken(generation.check_lengths("cpu"))
    assert off == {f"generation of {length}: tokens timed" for length in generation.LENGTHS}


def test_a_first_token_that_is_not_marked_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = phases.TokenMarks.__call__
    seen: set[int] = set()

    def skip_first(self: Any, ids: torch.Tensor, scores: Any, **options: Any) -> Any:
        if id(self) in seen:
            return mark(self, ids, scores, **options)
        seen.add(id(self))
        return None

    monkeypatch.setattr(phases.TokenMarks, "__call__", skip_first)
    assert {"latency, events: ttft_s", "latency, events: tokens_per_s"} <= check_events()


def miss_the_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EventClock, "settle", lambda self: None)


def test_a_missed_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    miss_the_wait(monkeypatch)
    (finding,) = perform("events", lambda: latency.check_on_events(SETTINGS["latency"], repeats=3))
    assert (finding.verdict, finding.found) == (OFF, "NotReady")


def test_a_wait_at_every_mark_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = EventClock.mark

    def wait_and_mark(self: EventClock) -> Any:
        self.settle()
        return mark(self)

    monkeypatch.setattr(EventClock, "mark", wait_and_mark)
    assert check_events() == {"latency, events: synchronizations per pass"}


def test_launches_timed_in_the_place_of_work_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted.ScriptedEngine, "clock", lambda self: HostClock())
    assert {f"latency, events: {phase}_s" for phase in ("vision", "decode")} <= check_events()


def test_a_projector_that_counts_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = Trace.timing

    def forget_nesting(self: Trace, *args: Any) -> Any:
        self._nested.clear()
        return timing(self, *args)

    monkeypatch.setattr(Trace, "timing", forget_nesting)
    assert check_events() == {"latency, events: vision_s", "latency, events: other_s"}


def test_means_that_pose_as_medians_are_found() -> None:
    steady = dict.fromkeys(scripted.SCRIPT_S, 1.0)
    known = scripted.known_answers([steady, steady, dict.fromkeys(steady, 10.0)])
    assert known["latency_s"] == len(steady)
    assert known["tpot_s"] == 2 / (scripted.NEW_TOKENS - 1)


# FLOPs, broken


def count_multiply_adds(patch: pytest.MonkeyPatch) -> None:
    def halve(counter: flop_counting.FlopCounter) -> int:
        return sum(counter.by_operator.values()) // 2

    patch.setattr(flop_counting.FlopCounter, "flops", property(halve))
    patch.setattr(twin, "_costs", {})


def test_multiply_adds_that_pose_as_operations_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    count_multiply_adds(monkeypatch)
    operators = list(flops.check_operators())
    assert broken(operators) == set(verdicts(operators))
    family = list(flops.check_family(default_family()))
    assert broken(family) == set(verdicts(family))


def test_attention_that_is_not_counted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = "aten::_scaled_dot_product_flash_attention_for_cpu"
    monkeypatch.delitem(flop_counting.FORMULAS, kernel)
    off = [finding for finding in flops.check_operators() if finding.verdict == OFF]
    assert {finding.check for finding in off} >= {"FLOPs, cpu: attention"}
    assert all(kernel in finding.why for finding in off)


# Memory, broken


def leave_the_peak(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(peak_watch, "reset_high_water_mark", lambda proc: True)


def test_a_peak_that_is_not_reset_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_the_peak(monkeypatch)
    off = broken(memory_check.check_on_host(SETTINGS["memory"]))
    assert "memory: peak above the loaded model" in off


def test_a_peak_of_a_gpu_that_is_not_reset_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        memory_check.SimulatedAllocator, "reset_peak_memory_stats", lambda self, device: None
    )
    found = list(memory_check.check_on_simulated_gpu())
    assert broken(found) == set(verdicts(found))


def test_half_a_cache_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_memory, "_layer_bytes", lambda layer: layer.keys.nbytes)
    off = broken(memory_check.check_on_host(SETTINGS["memory"]))
    assert off == {"memory: kv_cache_bytes_per_token", "memory: kv_cache_bytes"}


# Energy, broken


def read_a_longer_window(patch: pytest.MonkeyPatch) -> None:
    measure = Meter.measure_window

    def go_on_reading(self: Meter, *args: Any, **options: Any) -> Window:
        window = measure(self, *args, **options)
        watts = self.measure_idle(seconds=1.0)
        joules = {name: window.joules[name] + watts[name] for name in window.joules}
        return replace(window, joules=joules)

    patch.setattr(Meter, "measure_window", go_on_reading)


def test_joules_of_a_longer_window_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    read_a_longer_window(monkeypatch)
    off = broken(energy.check_counter(SETTINGS["energy"]))
    assert {f"energy, counter, {pass_s:g} s a pass: energy_j" for pass_s in (0.01, 0.37)} <= off


def test_joules_of_the_window_before_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Meter.measure_window
    kept = [{"gpu_board": 0.0}]

    def lag(self: Meter, *args: Any, **options: Any) -> Window:
        kept.append(measure(self, *args, **options).joules)
        return replace(measure(self, *args, **options), joules=kept[-2])

    monkeypatch.setattr(Meter, "measure_window", lag)
    off = broken(energy.check_counter(SETTINGS["energy"]))
    assert {f"energy, counter, {pass_s:g} s a pass: energy_j" for pass_s in (0.01, 10.0)} <= off


def test_samples_that_are_miscounted_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Meter.measure_window

    def count_passes(self: Meter, *args: Any, **options: Any) -> Window:
        window = measure(self, *args, **options)
        return replace(window, samples=window.samples // PhasedLoad.batch_size)

    monkeypatch.setattr(Meter, "measure_window", count_passes)
    off = broken(energy.check_phases(SETTINGS["energy"]))
    assert off == {f"energy by phase: {p}_energy_j" for p in ("vision", "prefill", "decode")}


def test_a_wrong_update_period_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy_window, "median", max)
    assert "energy, counter: update period" not in broken(energy.check_counter(SETTINGS["energy"]))
    monkeypatch.setattr(energy_window, "median", sum)
    assert "energy, counter: update period" in broken(energy.check_counter(SETTINGS["energy"]))


def test_a_wrap_that_is_not_handled_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget_the_wrap(self: rapl.Zone) -> int:
        return self.read_uj() - self._last_uj

    monkeypatch.setattr(rapl.Zone, "advance", forget_the_wrap)
    (finding,) = perform("RAPL", lambda: energy.check_rapl(SETTINGS["energy"]))
    assert finding.verdict == OFF


def test_a_number_off_a_counter_that_stands_still_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = energy._measure

    def invent(*args: Any) -> dict[str, Any]:
        found = measured(*args)
        return found | {"energy_j": replace(found["energy_j"], value=0.0)}

    monkeypatch.setattr(energy, "_measure", invent)
    assert broken(energy.check_refusal(SETTINGS["energy"])) == {
        "energy, a counter that does not move"
    }


# The machine, broken


class Ramp:
    """A counter of so many watts by the real clock."""

    component, source, longest_window_s = "cpu_package", "made up", float("inf")

    def __init__(self, watts: float) -> None:
        self.watts = watts

    def read_j(self) -> float:
        return self.watts * time.perf_counter()

    def read_mark(self) -> float:
        return self.read_j()


@pytest.mark.parametrize(("watts", "verdict"), [(90.0, OK), (0.0, OFF), (-5.0, OFF), (1e6, OFF)])
def test_a_counter_has_to_move_at_a_power_that_a_machine_has(watts: float, verdict: str) -> None:
    settings = {"period_changes": 3, "period_timeout_s": 0.05}
    assert machine._check_counter(Ramp(watts), settings).verdict == verdict


def test_a_clock_that_runs_fast_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true_s = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: 1.05 * true_s())
    finding = machine._check_rate(0.05)
    assert finding.verdict in (OFF, CANNOT)
    assert (finding.verdict == CANNOT) == (not hasattr(time, "CLOCK_MONOTONIC_RAW"))


def test_a_clock_that_goes_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([*range(machine.READS - 1), 5])
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks))
    off = broken(machine.check_clock(seconds=0.0))
    assert any("never goes back" in check for check in off)


def make_peaks(name: str, factor: float) -> Peaks:
    return Peaks(
        device_name=name,
        dtype="bfloat16",
        flops_per_s=factor * 989.5e12,
        bytes_per_s=factor * 4.8e12,
        matmul_shape=(1, 1, 1),
        threads=None,
        copy_bytes=1,
    )


@pytest.mark.parametrize(
    ("name", "factor", "verdict"),
    [
        ("NVIDIA H200", 0.8, OK),
        ("NVIDIA H200", 1.04, OK),
        ("NVIDIA H200", 1.06, OFF),
        ("Nobody's Board", 9.0, CANNOT),
    ],
)
def test_nothing_is_faster_than_its_data_sheet(name: str, factor: float, verdict: str) -> None:
    found = list(machine.judge_peaks(make_peaks(name, factor)))
    assert set(verdicts(found).values()) == {verdict}
    assert len(found) == 2


# Overhead


@pytest.mark.parametrize(
    ("factor", "spread", "verdict"),
    [(1.0, 0.0, OK), (1.04, 0.005, OK), (1.2, 0.01, OFF), (1.0, 0.4, CANNOT)],
)
def test_overhead_is_judged_by_its_interval(factor: float, spread: float, verdict: str) -> None:
    bare_s = [0.1 for _ in range(20)]
    signs = [1, 1, -1, 1, -1, -1, 1, -1, -1, 1] * 2
    watched_s = [0.1 * factor * (1 + sign * spread) for sign in signs]
    finding = generation.judge_overhead(watched_s, bare_s)
    assert finding.verdict == verdict
    assert bool(finding.why) == (verdict == CANNOT)


def test_too_few_pairs_are_no_verdict() -> None:
    assert generation.judge_overhead([0.2] * 3, [0.1] * 3).verdict == CANNOT


# Intervals, broken


def narrow(values: list[float]) -> Interval | None:
    found = bound_median(values)
    assert found is not None
    cut = found.half_width / 2
    return replace(found, low=found.low + cut, high=found.high - cut)


def widen(values: list[float]) -> Interval | None:
    found = bound_median(values)
    assert found is not None
    added = 3 * found.half_width
    return replace(found, low=found.low - added, high=found.high + added)


@pytest.mark.parametrize("change", [narrow, pytest.param(widen, marks=pytest.mark.slow)])
def test_intervals_that_hold_too_seldom_or_too_often_are_found(
    change: Callable[[list[float]], Interval | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "bound_median", change)
    findings = coverage.check_coverage(SETTINGS["latency"], trials=400)
    assert any(finding.verdict == OFF for finding in findings)


# Quality, broken


def test_a_mean_in_the_place_of_a_sum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "score", lambda *args, **options: [])
    (finding,) = perform("quality", quality.check_quality)
    assert finding.verdict == OFF


# All of it


@pytest.mark.parametrize(
    ("break_it", "check"),
    [
        (miscount_tokens, "latency, events"),
        (miscount_tokens, "generation"),
        (miss_the_wait, "latency, events"),
        (count_multiply_adds, "FLOPs"),
        (leave_the_peak, "memory"),
        (read_a_longer_window, "energy, counter"),
    ],
)
def test_a_broken_probe_is_an_exit_status(
    break_it: Callable[[pytest.MonkeyPatch], None],
    check: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    break_it(monkeypatch)
    assert report({check: list_checks("cpu", QUICK)[check]}) == 1
    assert ", 0 off, " not in capsys.readouterr().out
