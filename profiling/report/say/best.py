"""Find the run with the best value of one metric among those that meet conditions."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from profiling import metrics
from profiling.metrics import FLAG_COLUMNS, TEXT_COLUMNS
from profiling.report.read.runs import ReportError, Run
from profiling.report.read.selection import check_column, is_value
from profiling.report.read.sweeps import describe_setting
from profiling.report.say.marks import mark_estimate, mark_run
from profiling.report.say.units import interval

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*(\w+)\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*")
SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition on a run: a column, a relation, a bound."""

    column: str
    relation: str
    bound: str

    def holds(self, run: Run) -> bool:
        if self.relation in ("==", "!="):
            return is_value(run[self.column], self.bound) is (self.relation == "==")
        value = run.number(self.column)
        return value is not None and _OPERATORS[self.relation](value, float(self.bound))


def parse_condition(text: str) -> Condition:
    """`latency_s<0.5`, `device==cpu`."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ReportError(f"{text}: allowed is column<number, with one of {' '.join(_OPERATORS)}")
    column, relation, bound = found.groups()
    check_column(column)
    if relation not in ("==", "!=") and not _is_number(bound):
        raise ReportError(f"{text}: {bound} is not a number")
    return Condition(column=column, relation=relation, bound=bound)


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False


def check_objective(column: str) -> str:
    check_column(column)
    if column in TEXT_COLUMNS or column in FLAG_COLUMNS:
        raise ReportError(f"{column}: is not a number that can be minimized or maximized")
    return column


def rank_runs(
    runs: Sequence[Run], column: str, conditions: Sequence[Condition], *, most: bool
) -> list[Run]:
    """The completed runs that meet all conditions and have a value, the best first."""
    fit = [
        run
        for run in runs
        if run.completed and run.number(column) is not None
        if all(condition.holds(run) for condition in conditions)
    ]
    sign = -1 if most else 1
    return sorted(fit, key=lambda run: (sign * (run.number(column) or 0.0), run.name))


def write_best(
    runs: Sequence[Run], column: str, conditions: Sequence[Condition], *, most: bool
) -> list[str]:
    """Lines for a terminal: the best runs; none where no run meets the conditions."""
    ranked = rank_runs(runs, column, conditions, most=most)
    lines = [_line(run, column, conditions) for run in ranked[:SHOWN]]
    if not lines:
        return []
    completed = [run for run in runs if run.completed]
    lacking = sum(run.number(column) is None for run in completed)
    lines.append(
        f"{len(ranked)} of {len(completed)} completed runs fit"
        + (f"; {lacking} have no value of {column}" if lacking else "")
        + "."
    )
    return [*lines, *say_order(ranked[:SHOWN], column)]


def say_order(ranked: Sequence[Run], column: str) -> list[str]:
    """That times of separate runs are no ranking, where there are several."""
    metric = metrics.find(column)
    if len(ranked) < 2 or not metric.from_times:
        return []
    return ["In the order of the measured values; how much equal runs vary is unknown."]


def _line(run: Run, column: str, conditions: Sequence[Condition]) -> str:
    columns = [column, *(c.column for c in conditions if c.column not in TEXT_COLUMNS)]
    values = ", ".join(f"{c} {_show(run, c)}" for c in dict.fromkeys(columns))
    setting = f"{run['model']}, {run['weights']} weights, {describe_setting(run)}"
    return f"{run.short}{mark_run(run)}  {values}  ({setting})"


def _show(run: Run, column: str) -> str:
    unit = metrics.find(column).unit
    return mark_estimate(run, column) + interval(run.number(column), run.interval(column), unit)
