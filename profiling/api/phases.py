"""Where the time goes: phases of runs, their certainty, their work, and the machine's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiling import metrics
from profiling.api.shown import Notes
from profiling.metrics import COUNTED_PHASES, PHASES
from profiling.report.draw.figures import draw_stacks
from profiling.report.draw.inline import InlineFigure, show
from profiling.report.draw.record_figures import draw_places, stack_phases
from profiling.report.read.keys import list_differing, show_value
from profiling.report.read.readings import read_phase_repeats
from profiling.report.read.runs import ReportError, Run
from profiling.report.say.limits import find_places
from profiling.report.say.marks import mark_run
from profiling.report.say.sentences import phase_shares, phase_values, say_latency
from profiling.report.say.units import interval
from profiling.statistics.summaries import bound_level

if TYPE_CHECKING:
    import pandas


def label_runs(runs: Sequence[Run]) -> list[str]:
    """A short name of each run: the values of the keys in which they differ."""
    differing = list_differing([run.settings for run in runs])
    keys = [key for key in differing if "." not in key] or differing or ["model"]
    keys = sorted(keys, key=lambda key: key != "model")
    return [", ".join(_shorten(show_value(run.setting(key))) for key in keys) for run in runs]


def _shorten(value: str) -> str:
    """The last part of a path, such as that of a checkpoint."""
    return value.rstrip("/").rpartition("/")[2]


def plot_phases(runs: Sequence[Run], *, title: str, x_name: str = "") -> InlineFigure:
    """One bar for each run, by phase."""
    latency = metrics.find("latency_s")
    bars = [
        stack_phases(run, label=label + mark_run(run))
        for run, label in zip(runs, label_runs(runs), strict=True)
    ]
    names = {"title": title, "x_name": x_name, "y_name": latency.title, "unit": latency.unit}
    return show(draw_stacks, bars, **names)


@dataclass(frozen=True)
class Phases:
    """Timed runs, seen by phase."""

    runs: tuple[Run, ...]

    @property
    def table(self) -> pandas.DataFrame:
        """Seconds of one batch: a row per run, a column per phase."""
        rows = [phase_values(run) for run in self.runs]
        return self._frame(rows, PHASES)

    @property
    def shares(self) -> pandas.DataFrame:
        """The share of each phase in the latency."""
        return self._frame([phase_shares(run) for run in self.runs], PHASES)

    @property
    def work(self) -> pandas.DataFrame:
        """The share of each phase in the floating-point operations."""
        rows = [
            {phase: (run.number(f"flops_{phase}") or 0.0) / flops for phase in COUNTED_PHASES}
            if (flops := run.number("flops"))
            else {}
            for run in self.runs
        ]
        return self._frame(rows, COUNTED_PHASES)

    @property
    def longest(self) -> pandas.DataFrame:
        """The longest phase of each run: the median of its repeats, and the interval."""
        return self._frame([_bound_longest(run) for run in self.runs], None)

    @property
    def limits(self) -> pandas.DataFrame:
        """Each phase beside the least time that the machine's peaks allow: the roofline.

        `reached` is the least time over the measured one. Above 1, the peak was measured too low.
        """
        import pandas

        return pandas.DataFrame(
            [
                {
                    "run": label,
                    "phase": place.phase,
                    "bound_by": "memory" if place.is_bound_by_memory else "compute",
                    "flops_per_byte": place.intensity,
                    "seconds": place.seconds,
                    "least_s": place.least_s,
                    "reached": place.least_s / place.seconds,
                }
                for run, label in zip(self.runs, label_runs(self.runs), strict=True)
                for place in find_places(run)
            ],
            columns=["run", "phase", "bound_by", "flops_per_byte", "seconds", "least_s", "reached"],
        ).set_index(["run", "phase"])

    @property
    def notes(self) -> Notes:
        """A sentence about each run: what one batch takes, and in which phases."""
        labels = label_runs(self.runs)
        return Notes(
            f"{label}: {say_latency(run)}" for label, run in zip(labels, self.runs, strict=True)
        )

    def plot(self, title: str = "One batch by phase") -> InlineFigure:
        return plot_phases(self.runs, title=title)

    def plot_roofline(self, run: Run | None = None) -> InlineFigure:
        """A run, the first one unless another is given, below the limits of its machine."""
        chosen = run or next((one for one in self.runs if find_places(one)), None)
        places = find_places(chosen) if chosen is not None else []
        if chosen is None or not places:
            raise ReportError("roofline: no run has counted operations and measured peaks")
        return show(draw_places, places, chosen)

    def _frame(
        self, rows: Sequence[dict[str, float]] | Sequence[dict[str, object]], columns: object
    ) -> pandas.DataFrame:
        import pandas

        index = pandas.Index(label_runs(self.runs), name="run")
        return pandas.DataFrame(rows, index=index, columns=columns)  # type: ignore[arg-type]


def _bound_longest(run: Run) -> dict[str, object]:
    shares = phase_shares(run)
    if not shares:
        return {}
    phase = max(shares, key=lambda name: shares[name])
    repeats = read_phase_repeats(run.record).get(phase, [])
    seconds = run.number(f"{phase}_s")
    shown = interval(seconds, bound_level(repeats), "s") if repeats else ""
    return {
        "phase": phase,
        "share": shares[phase],
        "median [interval]": shown,
        "repeats": len(repeats),
    }
