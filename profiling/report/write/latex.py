"""Write tables with intervals for a paper: LaTeX with the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from textwrap import wrap

from profiling import metrics
from profiling.metrics import OVERVIEW
from profiling.report.read.keys import list_differing, show_value
from profiling.report.read.runs import Run, Runs, values_of
from profiling.report.read.sweeps import (
    MACHINE,
    describe_setting,
    is_timed,
    name_key,
    name_machine,
    pool_rounds,
)
from profiling.report.say import escape
from profiling.report.say.marks import explain, explain_rounds, mark_run
from profiling.report.say.units import NOTHING
from profiling.report.write.columns import Column, head_of, number_columns

# Digits across a page of the class article at its usual size, in footnotesize.
WIDTH = 80
# Lines of a table on a page.
LENGTH = 40
_BETWEEN = 3
# In digits; capitals and signs are wider.
_WIDE = {"%": 1.7, "\N{MULTIPLICATION SIGN}": 1.6, "\N{ALMOST EQUAL TO}": 1.6, "m": 1.6, "w": 1.5}
_CAPITAL = 1.45
# A head is wrapped at so many characters.
_HEAD = 12
# An interval stands below its value, and what confidence it reaches below the interval.
_BREAK = re.compile(r" (?=[\[(])")
_READING = (
    "Times are medians of one batch end to end; brackets hold 95% intervals, or of the confidence"
    " that stands behind them.",
    "Intervals of a run do not cover the variation from run to run; a speed-up without an interval"
    " is of separate runs.",
)


def to_latex(found: Runs, *, command: str) -> str:
    """A table environment for each model, or several where one is too wide or too long."""
    runs = pool_rounds(found.runs)
    lines = [
        f"% Made by {_comment(command)}",
        "% In the preamble: \\usepackage{booktabs}",
        "",
    ]
    for number, model in enumerate(values_of(filter(is_timed, runs), "model"), 1):
        own = [run for run in runs if run["model"] == model]
        lines += _write_model(own, f"tab:profiling-{number}")
    return "\n".join(lines).rstrip() + "\n"


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _write_model(runs: Sequence[Run], label: str) -> Iterator[str]:
    timed = [run for run in runs if is_timed(run)]
    keys = list_differing([run.settings for run in timed])
    names = _name_rows(timed, keys)
    costs = [
        column
        for column in number_columns(timed, metrics.list_shown(OVERVIEW))
        if any(cell != NOTHING for cell in column.cells)
    ]
    parts = [
        (columns, slice(start, start + rows))
        for columns in _split(names, costs)
        for rows in [LENGTH // _height([*names, *columns])]
        for start in range(0, len(timed), rows)
    ]
    for number, (columns, rows) in enumerate(parts, 1):
        caption = _caption(timed, keys, len(runs) - len(timed))
        if len(parts) > 1:
            caption += f" Part {number} of {len(parts)}."
        yield from _table(
            [*names, *columns],
            rows,
            caption=caption,
            label=label if number == 1 else f"{label}-{number}",
            notes=_list_notes(timed),
        )


def _name_rows(runs: Sequence[Run], keys: Sequence[str]) -> list[Column]:
    """The settings in which rows differ, and the names of runs where these are not enough."""
    columns = [_setting(runs, key) for key in keys]
    rows = list(zip(*(column.cells for column in columns), strict=True)) or [()] * len(runs)
    if len(set(rows)) == len(rows) and columns:
        return columns
    names = [run.short + mark_run(run) for run in runs]
    return [Column(head="run", cells=names, is_text=True), *columns]


def _setting(runs: Sequence[Run], key: str) -> Column:
    unit = metrics.find(key).unit if key in metrics.SETTING_COLUMNS else metrics.COUNT
    head = head_of(name_key(key), "" if unit == metrics.COUNT else unit)
    is_text = any(isinstance(run.setting(key), str) for run in runs)
    cells = [NOTHING if run.setting(key) is None else show_value(run.setting(key)) for run in runs]
    return Column(head=head, cells=cells, is_text=is_text)


def _split(names: Sequence[Column], costs: Sequence[Column]) -> Iterator[list[Column]]:
    """The costs in groups that fit across a page beside the names, one at least in each."""
    room = WIDTH - sum(map(_width, names))
    group: list[Column] = []
    for column in costs:
        if group and sum(map(_width, group)) + _width(column) > room:
            yield group
            group = []
        group.append(column)
    if group:
        yield group


def _width(column: Column) -> float:
    lines = [line for cell in column.cells for line in _break(column, escape.shorten(cell))]
    return _BETWEEN + max(map(_measure, (*_wrap(column.head), *lines)))


def _height(columns: Sequence[Column]) -> int:
    """The lines of the highest cell."""
    return max(len(_break(column, cell)) for column in columns for cell in column.cells)


def _break(column: Column, cell: str) -> list[str]:
    return [cell] if column.is_text else _BREAK.split(cell)


def _measure(text: str) -> float:
    return sum(_WIDE.get(c, _CAPITAL if c.isupper() else 1.0) for c in text)


def _wrap(head: str) -> list[str]:
    """The lines of a head, its unit on a line of its own."""
    title, bracket, unit = head.rpartition(" (")
    lines = wrap(title or head, _HEAD, break_long_words=False)
    return [*lines, f"({unit}"] if bracket and title else lines


def _stack(lines: Sequence[str], *, is_text: bool) -> str:
    """Lines above each other; empty braces keep a bracket from being an argument of the break."""
    if len(lines) == 1:
        return escape.latex(lines[0])
    stacked = r"\\{}".join(map(escape.latex, lines))
    return rf"\shortstack[{'l' if is_text else 'r'}]{{{stacked}}}"


def _caption(runs: Sequence[Run], keys: Sequence[str], unfinished: int) -> str:
    first = runs[0]
    machines = sorted({name_machine(run) for run in runs})
    mixed = [MACHINE] if len(machines) > 1 else []
    setting = describe_setting(first, without=[*keys, *mixed])
    # Where rows differ in the device, it has a column.
    place = "" if "device" in keys else f", on {first['device']}"
    whole = f"{first['model']}: {setting}{place}."
    if mixed:
        whole += f" Measured on {'; '.join(machines)}."
    every = len(runs) + unfinished
    return f"{whole} {unfinished} of {every} runs did not complete." if unfinished else whole


def _list_notes(runs: Sequence[Run]) -> list[str]:
    estimated = any(
        run[name] is not None and (metrics.find(name).is_estimate or run.is_estimated(name))
        for run in runs
        for name in metrics.list_shown(OVERVIEW)
    )
    marks = [f"{line}." for line in (*explain(runs, estimates=estimated), *explain_rounds(runs))]
    return [*_READING, *marks]


def _table(
    columns: Sequence[Column], rows: slice, *, caption: str, label: str, notes: Sequence[str]
) -> Iterator[str]:
    cells = [
        [_stack(_break(column, cell), is_text=column.is_text) for cell in column.cells[rows]]
        for column in columns
    ]
    yield from (r"\begin{table}[htbp]", r"\centering", r"\footnotesize")
    yield rf"\caption{{{escape.latex(caption)}}}"
    yield rf"\label{{{label}}}"
    yield rf"\begin{{tabular}}{{{''.join('l' if one.is_text else 'r' for one in columns)}}}"
    yield r"\toprule"
    yield " & ".join(_stack(_wrap(one.head), is_text=one.is_text) for one in columns) + r" \\"
    yield r"\midrule"
    yield from (" & ".join(row) + r" \\" for row in zip(*cells, strict=True))
    yield from (r"\bottomrule", r"\end{tabular}")
    yield r"\par\smallskip\begin{minipage}{\linewidth}\scriptsize"
    yield from map(escape.latex, notes)
    yield from (r"\end{minipage}", r"\end{table}", "")
