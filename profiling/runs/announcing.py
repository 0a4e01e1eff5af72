"""What is printed before points run and after they ended."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from profiling import PACKAGE, PROJECT, import_path
from profiling.errors import shorten
from profiling.machine.hub_cache import is_downloaded
from profiling.machine.machine import describe_machine
from profiling.models.weights import describe_weights
from profiling.runs.forecast import Forecast
from profiling.runs.paired.baselines import PairedRuns
from profiling.runs.progress import show_duration
from profiling.runs.session import Plan, is_kept

_ESTIMATE = (sys.executable, "-m", "profiling.runs.estimate")
_GB = 1e9
# As it is typed where the project is installed, and in a checkout.
_REPORT = "vlm-profile report" if PROJECT.parent == PACKAGE else "python -m profiling.report"


def announce(plans: Sequence[Plan]) -> None:
    """Which weights are used, how many points have a record already, how long the rest takes."""
    for line in _weights_lines(plans):
        print(line, flush=True)
    if len(plans) > 1:
        missing = [plan.point for plan in plans if not is_kept(plan)]
        kept = len(plans) - len(missing)
        line = f"{len(plans)} points, {kept} of them there already"
        expected_s = _forecast(plans).expect_all_s(missing)
        if expected_s is not None:
            line += f", the rest about {show_duration(expected_s)} (from the records at hand)"
        print(line, flush=True)


def list_points(plans: Sequence[Plan]) -> None:
    """The points in the order in which they would run, with time, memory and downloads.

    The time is that of similar records; where there are none, the least that the counted cost
    takes at the device's measured peaks.
    """
    forecast = _forecast(plans)
    missing = [plan for plan in plans if not is_kept(plan)]
    known = {plan.fingerprint: forecast.expect_s(plan.point) for plan in missing}
    counted = dict(zip((plan.fingerprint for plan in missing), estimate(missing), strict=True))
    for plan in plans:
        said = "there"
        if plan in missing:
            said = _describe(plan, known[plan.fingerprint], counted.get(plan.fingerprint, {}))
        print(f"{plan.fingerprint} {plan.point.label()}: {said}")
    _print_total(missing, known, counted)


def estimate(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Time and memory from counted cost, in a process that may import a framework."""
    if not plans:
        return []
    done = subprocess.run(
        _ESTIMATE,
        input=pickle.dumps([plan.point for plan in plans]),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": import_path()},
    )
    found: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    reason = f"not counted: counting ended with status {done.returncode}: {shorten(last)}"
    return found + [{"reason": reason}] * (len(plans) - len(found))


def _describe(plan: Plan, expected_s: float | None, counted: Mapping[str, Any]) -> str:
    if expected_s is not None:
        time = f"about {show_duration(expected_s)}"
    elif "at_least_s" in counted:
        time = f"at least {show_duration(counted['at_least_s'])} (from counted cost)"
    else:
        time = "time unknown" + (f" ({counted['reason']})" if "reason" in counted else "")
    if "needed_bytes" not in counted:
        return time
    return f"{time}, {_describe_memory(plan.point.device, counted['needed_bytes'])}"


def _describe_memory(device: str, needed: int) -> str:
    machine = describe_machine()
    kind, _, number = device.partition(":")
    there = machine.gpus[int(number or 0)].memory_bytes if kind == "cuda" else machine.memory_bytes
    line = f"{needed / _GB:.2f} GB for weights and cache of {there / _GB:.1f} GB"
    return f"{line}, which is not enough" if needed > there else line


def _print_total(
    missing: Sequence[Plan],
    known: Mapping[str, float | None],
    counted: Mapping[str, Mapping[str, Any]],
) -> None:
    # A point that a sweep names twice runs once.
    wanted = dict.fromkeys(plan.fingerprint for plan in missing)
    times = [known[one] or counted.get(one, {}).get("at_least_s") for one in wanted]
    found = [time for time in times if time is not None]
    if found:
        bound = "about" if all(known.values()) else "at least"
        unknown = f"; the time of {len(times) - len(found)} is unknown" * (len(found) < len(times))
        points = "1 point" if len(times) == 1 else f"{len(times)} points"
        print(f"{points} to run, {bound} {show_duration(sum(found))} in all{unknown}")
    for name, size in _list_downloads(missing, counted).items():
        print(f"would download {name}{f', about {size / _GB:.1f} GB of weights' if size else ''}")


def _list_downloads(
    missing: Sequence[Plan], counted: Mapping[str, Mapping[str, Any]]
) -> dict[str, int | None]:
    """Checkpoints of the hub that are not on this machine, and the size of their weights."""
    found: dict[str, int | None] = {}
    for plan in missing:
        point = plan.point
        if point.checkpoint is None or os.path.isdir(os.path.expanduser(point.checkpoint)):
            continue
        if not is_downloaded(point.checkpoint, point.revision):
            named = f"{point.checkpoint} at {point.revision or 'main'}"
            whole = point.weights == "pretrained"
            size = counted.get(plan.fingerprint, {}).get("weight_bytes") if whole else None
            found[named if whole else f"config.json of {named}"] = size
    return found


def _forecast(plans: Sequence[Plan]) -> Forecast:
    return Forecast(sorted({Path(plan.point.results_dir) for plan in plans}))


def conclude(plans: Sequence[Plan], *, totals: str, compared: PairedRuns | None) -> None:
    results_dirs = dict.fromkeys(plan.point.results_dir for plan in plans)
    print(totals)
    if compared is not None:
        print(compared.counts())
    for folder in results_dirs:
        print(f"{_REPORT} {folder} makes tables and pages of the records")
    for line in _weights_lines(plans):
        print(line, flush=True)


def _weights_lines(plans: Sequence[Plan]) -> list[str]:
    return list(dict.fromkeys(describe_weights(plan.point) for plan in plans))
