"""Draw runs: phases, compute by phase, the roofline, and quality against latency."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from profiling import metrics
from profiling.metrics import COUNTED_PHASES
from profiling.records import Record
from profiling.report.draw.figures import Bar, Dot, Mark, draw_plane, draw_roofline, draw_stacks
from profiling.report.read.runs import Run, single_run
from profiling.report.read.sweeps import describe_setting, is_timed
from profiling.report.say.limits import Place, find_places
from profiling.report.say.marks import mark_run, mark_weights
from profiling.report.say.pareto import costs_of
from profiling.report.say.sentences import phase_values

LATENCY_PER_SAMPLE = f"{metrics.find('latency_s').title} per sample"


def draw_record(record: Record, folder: Path) -> list[Path]:
    """Draw into a folder; gives the PNG files."""
    run = single_run(record)
    if is_timed(run):
        label = describe_setting(run)
        draw_phases(folder / "run_phases", [stack_phases(run, label=label + mark_run(run))], run)
        if run.number("flops_prefill"):
            draw_compute(folder / "run_flops", [stack_flops(run, label=label)], run)
        places = find_places(run)
        if places:
            draw_places(folder / "run_roofline", places, run)
    return sorted(folder.rglob("*.png"))


def stack_phases(run: Run, *, label: str) -> Bar:
    """The phases of a run as one bar; a negative remainder has no height."""
    bounds = run.interval("latency_s")
    low, high = (None, None) if bounds is None else (bounds.low, bounds.high)
    parts = {phase: max(0.0, part) for phase, part in phase_values(run).items()}
    return Bar(label=label, parts=parts, low=low, high=high)


def stack_flops(run: Run, *, label: str) -> Bar:
    parts = {phase: run.number(f"flops_{phase}") or 0.0 for phase in COUNTED_PHASES}
    return Bar(label=label, parts=parts, low=None, high=None)


def draw_phases(stem: Path, bars: Sequence[Bar], first: Run, *, x_name: str = "") -> None:
    """Latency by phase; `first` is a run whose model all bars share."""
    latency = metrics.find("latency_s")
    draw_stacks(
        stem,
        bars,
        title=f"{latency.words.capitalize()} by phase, {_name(first)}",
        x_name=x_name,
        y_name=latency.title,
        unit=latency.unit,
    )


def draw_compute(stem: Path, bars: Sequence[Bar], first: Run, *, x_name: str = "") -> None:
    """Compute by phase; `first` is a run whose model all bars share."""
    flops = metrics.find("flops")
    draw_stacks(
        stem,
        bars,
        title=f"{flops.words.capitalize()} of one batch by phase, {_name(first)}",
        x_name=x_name,
        y_name=flops.words,
        unit=flops.unit,
    )


def draw_places(stem: Path, places: Sequence[Place], run: Run) -> None:
    """The phases of a run under the roofline of its machine."""
    top = places[0]
    draw_roofline(
        stem,
        [
            Mark(phase=place.phase, x=place.intensity, y=place.reached_flops_per_s)
            for place in places
        ],
        title=f"Achieved against attainable FLOP/s by phase, {_name(run)}",
        peak_flops_per_s=top.peak_flops_per_s,
        peak_bytes_per_s=top.peak_bytes_per_s,
    )


def _name(run: Run) -> str:
    return f"{run['model']}{mark_weights(run)}"


def name_costs() -> str:
    """The title of a figure of quality against latency."""
    return f"{metrics.find('wer').words.capitalize()} against {LATENCY_PER_SAMPLE}"


def draw_costs(
    stem: Path,
    runs: Sequence[Run],
    groups: Mapping[str, str],
    front: Collection[str],
    *,
    title: str,
) -> None:
    """Quality against latency, a point per run; `groups` and `front` go by the run's name.

    `title` is of what the runs have in common; the quantities stand before it.
    """
    dots = [
        Dot(group=groups[run.name], x=cost[0], y=cost[1], on_front=run.name in front)
        for run in runs
        if (cost := costs_of(run, with_energy=False))
    ]
    draw_plane(
        stem,
        dots,
        title=f"{name_costs()}\n{title}",
        x_name=LATENCY_PER_SAMPLE,
        x_unit=metrics.find("latency_s").unit,
        y_name=metrics.find("wer").words,
    )
