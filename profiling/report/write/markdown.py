"""Markdown tables of runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from profiling import metrics
from profiling.metrics import COUNT, SUMMARY_COLUMNS
from profiling.report.read.keys import list_differing, show_value
from profiling.report.read.runs import Run
from profiling.report.read.sweeps import MACHINE, name_key, name_machine
from profiling.report.say import escape
from profiling.report.say.marks import mark_weights
from profiling.report.say.units import NOTHING
from profiling.report.write.columns import Column, head_of


def table(columns: Sequence[Column]) -> list[str]:
    """The lines of a table; a column without any value is left out."""
    kept = [column for column in columns if any(cell != NOTHING for cell in column.cells)]
    if not kept:
        return []
    lines = [
        _line(column.head for column in kept),
        _line(":--" if column.is_text else "--:" for column in kept),
    ]
    lines.extend(_line(cells) for cells in zip(*(column.cells for column in kept), strict=True))
    return lines


def fold(summary: str, lines: Sequence[str]) -> list[str]:
    """Lines that a reader opens; nothing where there are none. The summary is markdown's text."""
    if not lines:
        return []
    return ["<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>", ""]


def fold_further(lines: Sequence[str], *, most: int) -> list[str]:
    """The same lines, in which all open tables but the first ones are folded under their title."""
    folded: list[str] = []
    title, count, depth = "", 0, 0
    for is_table, group in groupby(lines, key=lambda line: line.startswith("|")):
        own = list(group)
        if is_table and not depth:
            count += 1
            own = own if count <= most else fold(title, own)
        for line in () if is_table else own:
            depth += (line == "<details>") - (line == "</details>")
            title = line.lstrip("# ") if line.startswith("#") else title
        folded += own
    return folded


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def run_column(runs: Sequence[Run]) -> Column:
    """The short name of each run, with the mark of its weights."""
    cells = [f"`{run.short}`{mark_weights(run)}" for run in runs]
    return Column(head="run", cells=cells, is_text=True)


def text_column(runs: Sequence[Run], column: str) -> Column:
    cells = [NOTHING if run[column] is None else escape.markdown(run[column]) for run in runs]
    return Column(head=metrics.find(column).title, cells=cells, is_text=True)


def setting_columns(runs: Sequence[Run], *, without: Sequence[str] = ()) -> list[Column]:
    """A column for each configuration key in which these runs differ, and for the machine."""
    differing = list_differing([run.settings for run in runs])
    columns = [setting_column(runs, key) for key in differing if key not in without]
    machines = [escape.markdown(name_machine(run)) for run in runs]
    if len(set(machines)) > 1:
        columns.append(Column(head=MACHINE, cells=machines, is_text=True))
    return columns


def setting_column(runs: Sequence[Run], key: str) -> Column:
    unit = metrics.find(key).unit if key in SUMMARY_COLUMNS else COUNT
    return Column(
        head=head_of(escape.markdown(name_key(key)), "" if unit == COUNT else unit),
        cells=[_setting(key, run) for run in runs],
        is_text=any(isinstance(run.setting(key), str) for run in runs),
    )


def _setting(key: str, run: Run) -> str:
    value = run.setting(key)
    if value is None:
        return "as it is" if key in ("prompt_len", "img_size") else NOTHING
    mark = mark_weights(run) if key == "model" else ""
    return escape.markdown(show_value(value)) + mark
