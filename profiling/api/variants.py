"""Runs that differ in one choice, each compared with the plain one of its sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiling.api.answers import change_columns
from profiling.api.phases import plot_phases
from profiling.api.shown import Notes
from profiling.metrics import PHASES
from profiling.report.draw.inline import InlineFigure
from profiling.report.read.plain_runs import SEPARATE_RUNS
from profiling.report.read.runs import ReportError, Run, read_answers
from profiling.report.read.selection import check_column
from profiling.report.read.sweeps import Sweep, describe_setting, find_rounds, find_sweeps
from profiling.report.say.changes import find_change
from profiling.report.say.sentences import say_engines, say_optimizations
from profiling.report.say.two_runs import equal_answers
from profiling.report.say.verdicts import is_plain_again, plain_of
from profiling.report.write.csv_json import to_frame

if TYPE_CHECKING:
    import pandas

SHOWN = (
    *("dtype", "latency_s", "speedup", "speedup_ci_low", "speedup_ci_high", "speedup_source"),
    *("agreement", "wer", "model_bytes", "peak_memory_bytes"),
)
# The ends of intervals, NaN where there is none.
ENDS = ("ci_low", "ci_high")
_NAMES = ("model", "img_size", "batch_size")


@dataclass(frozen=True)
class Variants:
    """Sweeps over a choice that hold the plain run; `every` has the rounds of all of them."""

    key: str
    sweeps: tuple[Sweep, ...]
    every: tuple[Run, ...]

    @classmethod
    def among(cls, runs: Sequence[Run], key: str, *, every: Sequence[Run]) -> Variants:
        found = [sweep for sweep in find_sweeps(runs, key) if plain_of(sweep.runs) is not None]
        if not found:
            raise ReportError(f"{key}: no runs differ in it alone, one of them the plain one")
        order = sorted(found, key=lambda sweep: [str(sweep.runs[0][name]) for name in _NAMES])
        return cls(key, tuple(order), tuple(every))

    @property
    def pairs(self) -> list[tuple[Run, Run]]:
        """The plain run and a variant, for each variant."""
        plain = [(plain_of(sweep.runs), sweep) for sweep in self.sweeps]
        return [(one, run) for one, sweep in plain if one for run in sweep.runs if run is not one]

    @property
    def table(self) -> pandas.DataFrame:
        """Every run of these sweeps, the plain ones too, with speed-up, answers and memory."""
        frame = to_frame([run for sweep in self.sweeps for run in sweep.runs])
        names = [*_NAMES, self.key]
        return frame.sort_values(names).set_index(names)[list(SHOWN)]

    @property
    def notes(self) -> Notes:
        """A sentence for each sweep: which variants are faster, slower, or not known to be."""
        say = say_optimizations if self.key == "optimization" else say_engines
        names = [
            f"{sweep.runs[0]['model']}, {describe_setting(sweep.runs[0], without=[self.key])}"
            for sweep in self.sweeps
        ]
        return Notes(f"{name}: {say(one)}" for name, one in zip(names, self.sweeps, strict=True))

    def changes(self, column: str = "latency_s") -> pandas.DataFrame:
        """The relative change of a cost against the plain run, with its interval.

        `source` is `paired`, `rounds`, `exact` or `separate runs`. Separate runs have no interval:
        how much equal runs vary is unknown, and nothing is called.
        """
        check_column(column)
        return self._frame([self._change(column, *pair) for pair in self.pairs])

    @property
    def controls(self) -> pandas.DataFrame:
        """Variants that change nothing but the name, such as a dtype that the plain run has.

        A difference that is called here is wrong, and then the others deserve no more trust.
        """
        changes = self.changes()
        rows = [is_plain_again(plain, run) for plain, run in self.pairs]
        return changes[rows]

    @property
    def phases(self) -> pandas.DataFrame:
        """The change of each phase, for the variant whose latency changes most."""
        import pandas

        plain, variant = self._most_changed()
        rows = [{"phase": name, **self._change(f"{name}_s", plain, variant)} for name in PHASES]
        frame = pandas.DataFrame(rows).set_index("phase").drop(columns=list(self._names()))
        return frame.astype(dict.fromkeys(ENDS, float))

    def plot_phases(self) -> InlineFigure:
        """The variant whose latency changes most beside the plain run, by phase."""
        plain, variant = self._most_changed()
        title = f"{variant['model']}: one batch by phase"
        return plot_phases((plain, variant), title=title, x_name=self.key)

    def answers(self) -> pandas.DataFrame:
        """Whether the answers are the same, and the change of the word error rate by sample."""
        return self._frame([self._compare_answers(*pair) for pair in self.pairs])

    def changed_answers(self, most: int = 5) -> pandas.DataFrame:
        """Answers of the variant that agrees least with the plain run."""
        import pandas

        plain, variant = min(self.pairs, key=lambda pair: pair[1].number("agreement") or 0.0)
        before, after = read_answers(plain.record), read_answers(variant.record)
        rows = [
            {"sample": key[0], "prompt": key[1], "plain": answer, variant[self.key]: after[key]}
            for key, answer in before.items()
            if key in after and after[key] != answer
        ]
        columns = ["sample", "prompt", "plain", variant[self.key]]
        return pandas.DataFrame(rows[:most], columns=columns).set_index("sample")

    def _names(self) -> tuple[str, ...]:
        return (*_NAMES, self.key)

    def _frame(self, rows: Sequence[dict[str, object]]) -> pandas.DataFrame:
        import pandas

        frame = pandas.DataFrame(rows).set_index(list(self._names()))
        return frame.astype({name: float for name in ENDS if name in frame})

    def _change(self, column: str, plain: Run, variant: Run) -> dict[str, object]:
        sides = [find_rounds(run, self.every) for run in (plain, variant)]
        change = find_change(column, *sides)
        bounds = None if change is None else change.relative_bounds
        named: dict[str, object] = {name: variant[name] for name in self._names()}
        return named | {
            "source": SEPARATE_RUNS if change is None else change.source,
            "change": None if change is None else change.relative,
            "ci_low": None if bounds is None else bounds.low,
            "ci_high": None if bounds is None else bounds.high,
            "called": change is not None and change.is_different,
        }

    def _compare_answers(self, plain: Run, variant: Run) -> dict[str, object]:
        named: dict[str, object] = {name: variant[name] for name in self._names()}
        named["agreement"] = equal_answers(plain, variant)
        return named | change_columns(plain, variant, "wer_change")

    def _most_changed(self) -> tuple[Run, Run]:
        return max(self.pairs, key=lambda pair: _distance(pair[1]))


def _distance(variant: Run) -> float:
    speedup = variant.number("speedup")
    return max(speedup, 1 / speedup) if speedup else 0.0
