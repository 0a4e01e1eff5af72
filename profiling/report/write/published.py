"""The page that compares the values of a published table with runs of the same settings."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from profiling import metrics
from profiling.report.read.runs import Run
from profiling.report.read.sweeps import is_timed, name_key, newest, plain_first
from profiling.report.say import escape
from profiling.report.say.marks import mark_weights
from profiling.report.say.units import (
    NOTHING,
    digits,
    times,
)
from profiling.report.write.columns import Column, find_scale, head_of, value_column
from profiling.report.write.markdown import table
from profiling.report.write.sections import section, show_marks, title_of

STEM = "published_table"
_VALUES = Path(__file__).parent / "published.csv"
_MEASURED = ("latency_s", "energy_j", "wer", "flops")
_KEYS = ("model", "dataset", "optimization", "img_size", "prompt_len", "batch_size")
_NEW_TOKENS = 50
_REMARKS = (
    "The published values are of published checkpoints on one H100: 300 samples, 50 new tokens,"
    " means. There is a ratio only where a run had published weights too.",
    "Published times had no warm-up and no spread, excluded preprocessing, and were measured with a"
    " profiler on; here they are medians of one whole batch, including preprocessing.",
    "Published answers included the prompt that some models repeat; here it is cut off.",
    "Published FLOPs are of the last batch, which may have been a partial one.",
    "Published prompts were cut at a length and never padded to it, so that short questions did not"
    " change; here every question has the length of its row.",
    "The published `compile` ran without being compiled.",
)

Setting = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the published table; None for a value that it lacks."""

    block: str
    setting: Setting
    values: dict[str, float | None]


@cache
def read_published() -> tuple[Row, ...]:
    with _VALUES.open(encoding="utf-8", newline="") as stream:
        return tuple(
            Row(
                block=line["block"],
                setting=tuple(line[key] for key in _KEYS),
                values={name: float(line[name]) if line[name] else None for name in _MEASURED},
            )
            for line in csv.DictReader(stream)
        )


def find_runs(runs: Sequence[Run]) -> dict[Setting, Run]:
    """The run of each row that was measured: preferably with published weights, then the newest."""
    rows = {row.setting for row in read_published()}
    timed = [run for run in newest(runs) if is_timed(run) and run["max_new_tokens"] == _NEW_TOKENS]
    found: dict[Setting, Run] = {}
    for run in sorted(timed, key=plain_first):
        setting = tuple("" if run[key] is None else str(run[key]) for key in _KEYS)
        if setting in rows:
            found.setdefault(setting, run)
    return found


def write_published(runs: Sequence[Run], command: str) -> list[str]:
    """The page; nothing where no row of the table was measured."""
    found = find_runs(runs)
    if not found:
        return []
    rows = read_published()
    count = len({row.setting for row in rows})
    lines = [
        "# A published table, measured again",
        "",
        f"{len(found)} of the {count} points of the table have a run here;"
        " `experiment=published_table` runs the others.",
        "",
        *(f"- {remark}" for remark in _REMARKS),
        "",
    ]
    for block in dict.fromkeys(row.block for row in rows):
        lines += section(title_of(block), _show_block(block, rows, found))
    return [*lines, *show_marks(list(found.values()), command)]


def _show_block(block: str, rows: Sequence[Row], found: dict[Setting, Run]) -> list[str]:
    lines: list[str] = []
    own = [row for row in rows if row.block == block]
    for dataset in dict.fromkeys(row.setting[1] for row in own):
        chosen = [row for row in own if row.setting[1] == dataset]
        if any(row.setting in found or any(row.values.values()) for row in chosen):
            lines += [f"### {dataset}", "", *_show_rows(block, chosen, found), ""]
    return lines


def _show_rows(block: str, rows: Sequence[Row], found: dict[Setting, Run]) -> list[str]:
    runs = [found.get(row.setting) for row in rows]
    key = _KEYS.index(block)
    names = [
        row.setting[0] + (mark_weights(run) if run else "")
        for row, run in zip(rows, runs, strict=True)
    ]
    values = [escape.markdown(row.setting[key]) for row in rows]
    shorts = [f"`{run.short}`" if run else NOTHING for run in runs]
    columns = [
        Column(head="model", cells=[escape.markdown(name) for name in names], is_text=True),
        Column(head=name_key(block), cells=values, is_text=block == "optimization"),
        Column(head="run", cells=shorts, is_text=True),
    ]
    for name in _MEASURED:
        columns += _beside(name, rows, runs)
    return table(columns)


def _beside(name: str, rows: Sequence[Row], runs: Sequence[Run | None]) -> list[Column]:
    """The published value, the measured one, and their ratio."""
    published = [row.values[name] for row in rows]
    known = [run for run in runs if run]
    values = [run.number(name) for run in known]
    scale = find_scale(name, [*published, *values])
    bounds = [run.interval(name) for run in known]
    measured = value_column(known, name, values=values, bounds=bounds, scale=scale)
    given = iter(measured.cells)
    cells = [next(given) if run else NOTHING for run in runs]
    ratios = [_ratio(name, value, run) for value, run in zip(published, runs, strict=True)]
    texts = [NOTHING if value is None else digits(value / scale.factor) for value in published]
    title = f"{metrics.find(name).title}, published"
    return [
        Column(head=head_of(title, scale.unit), cells=texts, is_text=False),
        Column(head=measured.head, cells=cells, is_text=False),
        Column(head="ratio", cells=ratios, is_text=False),
    ]


def _ratio(name: str, published: float | None, run: Run | None) -> str:
    mine = run.number(name) if run and not mark_weights(run) else None
    return NOTHING if not published or mine is None else times(mine / published)
