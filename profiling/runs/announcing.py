"""What is printed before points run and after they ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from profiling.models.weights import describe_weights
from profiling.runs.forecast import Forecast
from profiling.runs.paired.baselines import PairedRuns
from profiling.runs.progress import show_duration
from profiling.runs.session import Plan, is_kept


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
    """The points in the order in which they would run."""
    forecast = _forecast(plans)
    for plan in plans:
        expected_s = forecast.expect_s(plan.point)
        time = "time unknown" if expected_s is None else f"about {show_duration(expected_s)}"
        print(f"{plan.fingerprint} {plan.point.label()}: {'there' if is_kept(plan) else time}")


def _forecast(plans: Sequence[Plan]) -> Forecast:
    return Forecast(sorted({Path(plan.point.results_dir) for plan in plans}))


def conclude(plans: Sequence[Plan], *, totals: str, compared: PairedRuns | None) -> None:
    results_dirs = dict.fromkeys(plan.point.results_dir for plan in plans)
    print(totals)
    if compared is not None:
        print(compared.counts())
    for folder in results_dirs:
        print(f"python -m profiling.report {folder} makes tables and pages of the records")
    for line in _weights_lines(plans):
        print(line, flush=True)


def _weights_lines(plans: Sequence[Plan]) -> list[str]:
    return list(dict.fromkeys(describe_weights(plan.point) for plan in plans))
