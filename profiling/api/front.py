"""The Pareto front: runs that no other run beats in cost and errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from profiling import metrics
from profiling.api.shown import Notes
from profiling.metrics import COUNT, HIGHER, PER_SECOND
from profiling.report.draw.figures import Dot, draw_plane
from profiling.report.draw.inline import InlineFigure, show
from profiling.report.read.runs import ReportError, Run
from profiling.report.read.sweeps import describe_setting, is_timed, newest
from profiling.report.say.best import check_objective
from profiling.report.say.marks import mark_run
from profiling.report.say.pareto import find_front, group_comparable
from profiling.report.say.units import digits, quantity, times
from profiling.report.write.csv_json import to_frame

if TYPE_CHECKING:
    import pandas

_SHOWN = ("model", "optimization", "img_size", "batch_size")


@dataclass(frozen=True)
class Front:
    """The largest group of runs with the same samples and machine, and those on its front."""

    cost: str
    error: str
    group: tuple[Run, ...]
    runs: tuple[Run, ...]

    @classmethod
    def among(cls, runs: Sequence[Run], cost: str, error: str) -> Front:
        for column in (cost, error):
            check_objective(column)
        timed = newest([run for run in runs if is_timed(run)])
        known = [run for run in timed if None not in (run.number(cost), run.number(error))]
        if not known:
            raise ReportError(f"{cost}, {error}: no run has both")
        group = group_comparable(known)[0]
        front = [group[i] for i in find_front([_rank(run, cost, error) for run in group])]
        front.sort(key=lambda run: _rank(run, cost, error))
        return cls(cost, error, tuple(group), tuple(front))

    @property
    def table(self) -> pandas.DataFrame:
        """The runs on the front, the cheapest first."""
        columns = dict.fromkeys((*_SHOWN, self.cost, "latency_s", self.error, "noisy"))
        return to_frame(self.runs)[list(columns)]

    @property
    def notes(self) -> Notes:
        """From each run on the front to the next better one: how much more it costs."""
        first = self.runs[0]
        if len(self.runs) == 1:
            return Notes([f"One run is best in both: {first['model']}, {describe_setting(first)}."])
        return Notes(self._say_step(*step) for step in pairwise(self.runs))

    def plot(self) -> InlineFigure:
        """Every run of the group; those on the front are filled."""
        cost, error = metrics.find(self.cost), metrics.find(self.error)
        on_front = {run.name for run in self.runs}
        dots = [
            Dot(group=run["model"], x=x, y=y, on_front=run.name in on_front)
            for run in self.group
            for x, y in [_place(run, self.cost, self.error)]
        ]
        return show(
            draw_plane,
            dots,
            title=f"Not beaten: {len(self.runs)} of {len(self.group)} runs",
            x_name=cost.title,
            x_unit=cost.unit,
            y_name=error.words,
        )

    def _say_step(self, cheap: Run, good: Run) -> str:
        cost = metrics.find(self.cost)
        # The words of a rate say its unit.
        unit = COUNT if cost.unit == PER_SECOND else cost.unit
        (low, more), (high, less) = (_place(run, self.cost, self.error) for run in (cheap, good))
        change = f"{quantity(low, unit)} to {quantity(high, unit)}"
        # Of a rate, or of a cost of nothing, no ratio says how much dearer a run is.
        if cost.better == HIGHER or low <= 0:
            change = f"{cost.words} from {change}"
        else:
            change = f"{times(high / low)} the cost ({change})"
        return (
            f"from {_name(cheap)} to {_name(good)}: {change},"
            f" {metrics.find(self.error).words} from {digits(more)} to {digits(less)}"
        )


def _rank(run: Run, cost: str, error: str) -> tuple[float, ...]:
    """The place with the sign at which less is better: of an accuracy or a rate more is."""
    signs = [-1 if metrics.find(name).better == HIGHER else 1 for name in (cost, error)]
    return tuple(sign * value for sign, value in zip(signs, _place(run, cost, error), strict=True))


def _place(run: Run, cost: str, error: str) -> tuple[float, float]:
    return float(run[cost]), float(run[error])


def _name(run: Run) -> str:
    return f"{run['model']} ({describe_setting(run)}){mark_run(run)}"
