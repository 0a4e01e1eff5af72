"""Draw what one record holds by itself: its phases, its compute, and its place under the roof."""

from __future__ import annotations

from pathlib import Path

from profiling.records import Record
from profiling.report.draw.figures import draw_stacks
from profiling.report.read.runs import Run, single_run
from profiling.report.read.sweeps import describe_setting, is_timed
from profiling.report.say.marks import mark_run, mark_weights
from profiling.report.write.limits import show_roofline
from profiling.report.write.sections import Paper, stack_flops, stack_phases


def draw_portrait(record: Record, folder: Path) -> list[Path]:
    """Draws into a folder, and names the PNG files."""
    run = single_run(record)
    paper = Paper(output=folder, stem="run")
    if is_timed(run):
        _draw_phases(paper, run)
        show_roofline(paper, run)
    return sorted(folder.rglob("*.png"))


def _draw_phases(paper: Paper, run: Run) -> None:
    title = f"{run['model']}{mark_weights(run)}"
    draw_stacks(
        paper.figure("phases"),
        [stack_phases(run, label=describe_setting(run) + mark_run(run))],
        title=f"{title}: one batch by phase",
        x_name="",
        y_name="latency",
        unit="s",
    )
    if run.number("flops_prefill"):
        draw_stacks(
            paper.figure("flops"),
            [stack_flops(run, label=describe_setting(run))],
            title=f"{title}: compute of one batch by phase",
            x_name="",
            y_name="compute",
            unit="FLOP",
        )
