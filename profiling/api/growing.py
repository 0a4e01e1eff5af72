"""How cost and answers change along a key that is a size: sweeps, one of each model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiling import metrics
from profiling.api.answers import change_columns
from profiling.api.phases import plot_phases
from profiling.api.shown import Notes
from profiling.report.draw.figures import draw_lines
from profiling.report.draw.inline import InlineFigure, show
from profiling.report.read.plain_runs import BASELINE
from profiling.report.read.runs import ReportError, Run
from profiling.report.read.selection import check_column
from profiling.report.read.sweeps import Sweep, describe_value, find_sweeps, name_key
from profiling.report.say.laws import describe_growth
from profiling.report.say.sentences import fit, say_crossing, say_growth

if TYPE_CHECKING:
    import pandas

COSTS = ("latency_s", "vision_s", "prefill_s", "flops")


@dataclass(frozen=True)
class Growing:
    """For each model its longest sweep over one key: runs that differ in nothing else."""

    key: str
    sweeps: dict[str, Sweep]

    @classmethod
    def among(cls, runs: Sequence[Run], key: str) -> Growing:
        """Sweeps of the plain model come before those of a variant, long ones before short ones."""
        found = [sweep for sweep in find_sweeps(runs, key) if sweep.is_growing]
        found.sort(key=lambda sweep: sweep.runs[0]["optimization"] != BASELINE)
        longest = {sweep.runs[0]["model"]: sweep for sweep in reversed(found)}
        if not longest:
            raise ReportError(f"{key}: no two of these runs differ in it alone, by size")
        return cls(key, {model: longest[model] for model in sorted(longest)})

    @property
    def steepest(self) -> str:
        """The model whose latency grows most from its smallest to its largest size."""
        return max(self.sweeps, key=lambda model: _growth(self.sweeps[model]))

    @property
    def notes(self) -> Notes:
        """For each model the ratio between its largest and its smallest size, and the cause."""
        return self._say(say_growth, "no change of the latency is shown.")

    @property
    def crossings(self) -> Notes:
        """Where prefill starts to cost more than vision and decode together."""
        missing = "that prefill exceeds vision and decode together is not shown."
        return self._say(say_crossing, missing)

    def _say(self, say: Callable[[Sweep], str], missing: str) -> Notes:
        return Notes(f"{name}: {say(sweep) or missing}" for name, sweep in self.sweeps.items())

    def table(self, column: str = "latency_s") -> pandas.DataFrame:
        """A column by model and size."""
        import pandas

        check_column(column)
        lines = {
            model: pandas.Series({run[self.key]: run.number(column) for run in sweep.runs})
            for model, sweep in self.sweeps.items()
        }
        return pandas.DataFrame(lines).T.rename_axis("model").rename_axis(self.key, axis="columns")

    def laws(self, columns: Iterable[str] = COSTS) -> pandas.DataFrame:
        """The power of the size with which each column grows, where these sizes determine one."""
        import pandas

        rows = {
            model: {column: _say_law(sweep, check_column(column)) for column in columns}
            for model, sweep in self.sweeps.items()
        }
        return pandas.DataFrame(rows).T.rename_axis("model")

    def answers(self) -> pandas.DataFrame:
        """Word error rates of the same samples at the smallest and at the largest size.

        A negative change is a gain; `called` says whether its 95% interval excludes no change.
        """
        import pandas

        rows = [_compare_ends(model, sweep) for model, sweep in self.sweeps.items()]
        frame = pandas.DataFrame(rows).set_index("model")
        return frame.astype({name: float for name in ("ci_low", "ci_high") if name in frame})

    def plot(self, column: str = "latency_s") -> InlineFigure:
        """One line for each model."""
        metric = metrics.find(check_column(column))
        lines = {
            model: [
                (run[self.key], run[column])
                for run in sweep.runs
                if run[self.key] is not None and run.number(column) is not None
            ]
            for model, sweep in self.sweeps.items()
        }
        return show(
            draw_lines,
            lines,
            title=f"{metric.title.capitalize()} of one batch against {name_key(self.key)}",
            x_name=name_key(self.key),
            y_name=metric.title,
            unit=metric.unit,
        )

    def plot_phases(self, model: str | None = None) -> InlineFigure:
        """One model by phase: the steepest one unless another is named."""
        chosen = model or self.steepest
        if chosen not in self.sweeps:
            raise ReportError(f"{chosen}: allowed is one of {', '.join(self.sweeps)}")
        title = f"{chosen}: one batch by phase"
        return plot_phases(self.sweeps[chosen].runs, title=title, x_name=name_key(self.key))


def _growth(sweep: Sweep) -> float:
    return float(sweep.runs[-1]["latency_s"]) / float(sweep.runs[0]["latency_s"])


def _say_law(sweep: Sweep, column: str) -> str:
    unit, growth = fit(sweep, column)
    return "too few sizes" if growth is None else describe_growth(growth, unit)


def _compare_ends(model: str, sweep: Sweep) -> dict[str, object]:
    small, large = sweep.runs[0], sweep.runs[-1]
    sizes = [describe_value(sweep.key, run[sweep.key]) for run in (small, large)]
    row: dict[str, object] = {
        "model": model,
        "sizes": " to ".join(sizes),
        "wer_small": small.number("wer"),
        "wer_large": large.number("wer"),
    }
    return row | change_columns(small, large, "change")
