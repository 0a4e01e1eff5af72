"""The section about the operators of traced runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from profiling import metrics
from profiling.metrics import PHASES
from profiling.report.read.readings import read_rows
from profiling.report.read.runs import Run
from profiling.report.read.sweeps import describe_setting
from profiling.report.say import escape
from profiling.report.say.marks import mark_run
from profiling.report.say.units import percent
from profiling.report.write.columns import Column, quantity_column
from profiling.report.write.markdown import table

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Traced:
    """One row of a trace: its time, and its share of the traced time of its phase."""

    phase: str
    name: str
    seconds: float
    share: float


def list_traced(runs: Sequence[Run]) -> list[str]:
    """For each traced run the slowest operators and kinds of layers of each phase."""
    return [line for run in runs for line in _show(run)]


def _show(run: Run) -> Iterator[str]:
    operators, layers = (list(_read(run, metric)) for metric in ("operator_s", "layer_s"))
    if not operators:
        return
    yield f"Run `{run.short}`{mark_run(run)}, {escape.markdown(describe_setting(run, without=()))}."
    yield ""
    yield from table(_columns("layer_s", layers))
    yield ""
    yield from table(_columns("operator_s", _slowest(operators)))
    yield ""


def _read(run: Run, metric: str) -> Iterator[Traced]:
    rows = [
        (phase, source.partition(";")[0], float(value))
        for phase, own, value, _, _, source, _, _ in read_rows(run.record)
        if own == metric and value
    ]
    wholes = _sum_phases(run)
    for phase in PHASES:
        own_rows = sorted((row for row in rows if row[0] == phase), key=lambda row: -row[2])
        for _, name, seconds in own_rows:
            whole = wholes.get(phase, 0.0)
            share = seconds / whole if whole else 0.0
            yield Traced(phase=phase, name=name, seconds=seconds, share=share)


def _sum_phases(run: Run) -> dict[str, float]:
    """The traced time of each phase: every operator belongs to one kind of layer."""
    sums: dict[str, float] = defaultdict(float)
    for phase, metric, value, *_ in read_rows(run.record):
        if metric == "layer_s" and value:
            sums[phase] += float(value)
    return sums


def _slowest(rows: Sequence[Traced]) -> list[Traced]:
    kept = []
    for phase in PHASES:
        kept += [row for row in rows if row.phase == phase][:_SHOWN]
    return kept


def _columns(metric: str, rows: Sequence[Traced]) -> list[Column]:
    unit = metrics.find(metric).unit
    return [
        Column(head="phase", cells=[row.phase for row in rows], is_text=True),
        Column(
            head=metrics.find(metric).title,
            cells=[escape.markdown(row.name) for row in rows],
            is_text=True,
        ),
        quantity_column("time", [row.seconds for row in rows], unit),
        Column(head="of the phase", cells=[percent(row.share) for row in rows], is_text=False),
    ]
