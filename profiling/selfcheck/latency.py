"""Compares the latency probe with passes of known durations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from profiling.probes.latency import LatencyProbe
from profiling.selfcheck.finding import Finding, compare
from profiling.selfcheck.scripted import (
    SCRIPT_S,
    RealTime,
    ScriptedWorkload,
    SimulatedGpu,
    Stage,
    known_answers,
)

# Hooks run between two clock readings; one token more or less would exceed this by far.
REAL_TOLERANCE = 0.05
# Longer phases, so that the time of hooks on a busy machine is small in comparison.
REAL_SLOWNESS = 2
EXACT = 1e-6


def check_on_host(settings: Mapping[str, Any], *, repeats: int) -> Iterator[Finding]:
    """Passes in real time, with the clock of a CPU run."""
    script_s = {name: REAL_SLOWNESS * seconds for name, seconds in SCRIPT_S.items()}
    yield from _check("host clock", RealTime(script_s=script_s), settings, repeats, REAL_TOLERANCE)


def check_on_events(settings: Mapping[str, Any], *, repeats: int) -> Iterator[Finding]:
    """Passes of a simulated GPU, with the clock of a GPU run."""
    gpu = SimulatedGpu(script_s=SCRIPT_S)
    yield from _check("events", gpu, settings, repeats, EXACT)
    yield compare(
        "latency, events: synchronizations per pass",
        expected=1,
        found=gpu.waits / len(gpu.passes),
        unit="1",
        tolerance=0,
        why="a timed pass synchronizes once, after its end",
    )


def _check(
    clock: str, stage: Stage, settings: Mapping[str, Any], repeats: int, tolerance: float
) -> Iterator[Finding]:
    probe = LatencyProbe(**{**settings, "repeats": repeats})
    readings = list(probe.measure(ScriptedWorkload(stage=stage)))
    found = {reading.metric: reading for reading in readings if reading.is_aggregate}
    for metric, known in known_answers(stage.passes[-repeats:]).items():
        unit = "1/s" if metric.endswith("per_s") else "s"
        yield compare(
            f"latency, {clock}: {metric}",
            expected=known,
            found=found[metric].value,
            unit=unit,
            tolerance=tolerance,
        )
