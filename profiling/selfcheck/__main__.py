"""Compares each instrument with a known answer; exit status 1 if one is off."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from profiling.arguments import Parser, print_anything, refuse, refusing, whole_from
from profiling.machine.gpus import ORDER
from profiling.machine.machine import resolve_device
from profiling.selfcheck.finding import OFF, Check, Finding, perform
from profiling.selfcheck.table import heading, lines, totals

_GPU_HELP = "all that only a GPU can show, in under 8 minutes; leaves records and pages"


@dataclass(frozen=True, kw_only=True)
class Effort:
    """The effort of the checks; `profiler` names the settings of the probes."""

    profiler: str
    repeats: int
    pairs: int
    max_new_tokens: int
    trials: int
    moment_s: float
    all_families: bool


FULL = Effort(
    profiler="full",
    repeats=21,
    pairs=40,
    max_new_tokens=50,
    trials=2000,
    moment_s=1.0,
    all_families=True,
)
QUICK = Effort(
    profiler="quick",
    repeats=5,
    pairs=8,
    max_new_tokens=10,
    trials=200,
    moment_s=0.2,
    all_families=False,
)


def main(arguments: Sequence[str]) -> int:
    print_anything()
    parser = Parser(prog="python -m profiling.selfcheck", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter checks: half a minute")
    parser.add_argument("--gpu", action="store_true", help=_GPU_HELP)
    parser.add_argument(
        "--output", type=Path, default=Path("results_gpu"), help="where --gpu leaves its records"
    )
    parser.add_argument("--budget-s", type=whole_from(1), help="seconds that --gpu may take")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    chosen = parser.parse_args(arguments)
    # No check may depend on a network.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.update(ORDER)
    if chosen.gpu:
        return _check_gpu(chosen)
    with refusing():
        device = resolve_device(chosen.device)
    return report(list_checks(device, QUICK if chosen.quick else FULL))


def _check_gpu(chosen: argparse.Namespace) -> int:
    from profiling.selfcheck.gpu_course import NoGpuHere, find_gpu, run_course

    try:
        with refusing():
            device = find_gpu(chosen.device)
            return run_course(device, output=chosen.output, budget_s=chosen.budget_s)
    except NoGpuHere as reason:
        refuse(reason)


def report(checks: dict[str, Check]) -> int:
    """Print the findings as they come; returns the exit status."""
    print(*heading(), sep="\n")
    findings: list[Finding] = []
    for finding in _perform_all(checks):
        findings.append(finding)
        print(*lines(finding), sep="\n", flush=True)
    print(f"\n{totals(findings)}")
    return int(any(finding.verdict == OFF for finding in findings))


def _perform_all(checks: dict[str, Check]) -> Iterator[Finding]:
    for name, check in checks.items():
        yield from perform(name, check)


def list_checks(device: str, effort: Effort) -> dict[str, Check]:
    """Every check by name, in the order of the table."""
    # Imported here, so that a wrong argument is reported before torch is imported.
    from profiling.selfcheck import coverage, quality
    from profiling.selfcheck.tiny import compose

    profiler = compose(profiler=effort.profiler)["profiler"]
    latency = profiler["probes"]["latency"]
    return {
        **_list_machine(device, effort, profiler),
        **_list_probes(device, effort, profiler["probes"]),
        "intervals": partial(coverage.check_coverage, latency, trials=effort.trials),
        "quality": quality.check_quality,
    }


def _list_machine(device: str, effort: Effort, profiler: dict[str, Any]) -> dict[str, Check]:
    import torch

    from profiling.selfcheck import machine

    seconds = effort.moment_s
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    return {
        "clock": partial(machine.check_clock, seconds=seconds),
        "event clock": partial(machine.check_event_clock, device, seconds=seconds),
        "instruments": partial(machine.check_instruments, device, profiler["probes"]["energy"]),
        "noise": partial(machine.check_noise, device, profiler["noise"], seconds=seconds),
        "peaks": partial(machine.check_peaks, device, dtype, profiler["roofline"]),
    }


def _list_probes(device: str, effort: Effort, probes: dict[str, Any]) -> dict[str, Check]:
    from profiling.points.options import list_families
    from profiling.selfcheck import energy, flops, generation, latency, memory
    from profiling.selfcheck.tiny import default_family

    families = list_families() if effort.all_families else [default_family()]
    repeats = effort.repeats
    return {
        "latency, events": partial(latency.check_on_events, probes["latency"], repeats=repeats),
        "latency, host": partial(latency.check_on_host, probes["latency"], repeats=repeats),
        "generation": partial(generation.check_lengths, device),
        "overhead": partial(
            generation.check_overhead,
            device,
            pairs=effort.pairs,
            max_new_tokens=effort.max_new_tokens,
        ),
        "FLOPs": flops.check_operators,
        **{f"FLOPs, {name}": partial(flops.check_family, name) for name in families},
        "memory": partial(memory.check_on_host, probes["memory"]),
        "memory, GPU": partial(memory.check_on_gpu, device, probes["memory"]),
        "memory, simulated GPU": memory.check_on_simulated_gpu,
        "energy, counter": partial(energy.check_counter, probes["energy"]),
        "energy, power": partial(energy.check_power, probes["energy"]),
        "energy, RAPL": partial(energy.check_rapl, probes["energy"]),
        "energy by phase": partial(energy.check_phases, probes["energy"]),
        "energy, refusal": partial(energy.check_refusal, probes["energy"]),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
