"""`profiling.load`: the runs of results folders, their table, and what can be asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiling.api.front import Front
from profiling.api.growing import Growing
from profiling.api.phases import Phases
from profiling.api.shown import Notes
from profiling.api.variants import Variants
from profiling.report.read.keys import list_keys
from profiling.report.read.runs import ReportError, Run, read_runs
from profiling.report.read.selection import check_column, is_value, select_rounds
from profiling.report.read.sweeps import is_timed, newest, pick_reference
from profiling.report.say.best import check_objective, parse_condition, rank_runs
from profiling.report.say.explanation import explain_run
from profiling.report.say.marks import explain
from profiling.report.say.sentences import say_origin, say_outcomes
from profiling.report.write.csv_json import to_frame

if TYPE_CHECKING:
    import pandas


def load(results_dir: str | PathLike[str] = "results") -> Results:
    """The runs of a results folder. Records that cannot be read are named in `problems`.

    Raises `ValueError` where there is no such folder.
    """
    return read_folders([Path(results_dir)])


def read_folders(folders: Sequence[Path]) -> Results:
    for folder in folders:
        if not folder.is_dir():
            raise ReportError(f"{folder}: there is no such results folder")
    found = [read_runs(folder) for folder in folders]
    runs = tuple(run for one in found for run in one.runs)
    return Results(runs=runs, every=runs, problems=[p for one in found for p in one.problems])


@dataclass(frozen=True, kw_only=True, repr=False)
class Results:
    """Runs, in the order of their addresses.

    `every` are all runs that were read with them, among which rounds of a point are looked for.
    """

    runs: tuple[Run, ...]
    every: tuple[Run, ...]
    problems: Sequence[str]

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __getitem__(self, selector: str) -> Run:
        """The one run that a selector names: `key=value,…` or the beginning of a fingerprint."""
        return select_rounds(selector, self.runs)[-1]

    def __repr__(self) -> str:
        return "\n".join([say_outcomes(self.runs), *self.problems])

    def _repr_markdown_(self) -> str:
        origin = say_origin(self.runs) if self.runs else []
        return Notes([say_outcomes(self.runs), *origin, *self.problems])._repr_markdown_()

    @property
    def table(self) -> pandas.DataFrame:
        """One row per run, with the columns of docs/columns.md; NaN where there is no value."""
        return to_frame(self.runs)

    # Choosing

    def select(self, **keys: object) -> Results:
        """The runs with these values of columns or keys; of a list, any value counts."""
        known = list_keys(run.settings for run in self.every)
        for key in keys:
            check_column(key, known)
        return self._of(run for run in self.runs if _has_values(run, keys))

    def of_points(self, fingerprints: Sequence[str]) -> Results:
        """The newest run of each of these points, in their order."""
        latest = {run.record.fingerprint: run for run in sorted(self.runs, key=_started)}
        return self._of(latest[name] for name in fingerprints if name in latest)

    def newest(self) -> Results:
        """The newest completed run of each point, ordered by settings."""
        return self._of(newest([run for run in self.runs if is_timed(run)]))

    def reference(self) -> Results:
        """One run of each model: the plain model at the size that most of its runs have."""
        models: dict[str, list[Run]] = {}
        for run in self.newest():
            models.setdefault(run["model"], []).append(run)
        return self._of(pick_reference(models[name]) for name in sorted(models))

    def best(
        self,
        *,
        minimize: str | None = None,
        maximize: str | None = None,
        subject_to: str | Sequence[str] = (),
    ) -> Results:
        """The completed runs that meet all conditions (`"wer<0.2"`), the best first."""
        if (minimize is None) is (maximize is None):
            raise ReportError("best: allowed is one of minimize and maximize")
        column = check_objective(str(minimize or maximize))
        texts = [subject_to] if isinstance(subject_to, str) else subject_to
        conditions = [parse_condition(text) for text in texts]
        return self._of(rank_runs(self.runs, column, conditions, most=maximize is not None))

    def _of(self, runs: Iterable[Run]) -> Results:
        return replace(self, runs=tuple(runs))

    # Asking

    def phases(self) -> Phases:
        """Where the time goes, and how far each phase is from the limits of the machine."""
        return Phases(tuple(run for run in self.runs if is_timed(run)))

    def growing(self, key: str) -> Growing:
        """How cost and answers change along a key that is a size, such as `img_size`."""
        return Growing.among(self.runs, key)

    def variants(self, key: str = "optimization") -> Variants:
        """Runs that differ in one choice, each compared with the plain one."""
        return Variants.among(self.runs, key, every=self.every)

    def front(self, cost: str = "latency_s", error: str = "wer") -> Front:
        """The runs that no other run beats in both columns, among those that can be compared."""
        return Front.among(self.runs, cost, error)

    def explain(self, selector: str) -> Notes:
        """Whether the times of a run are normal, what limits them, and what to try."""
        return Notes(explain_run(self[selector], self.every))

    def remarks(self) -> Notes:
        """What the marks beside numbers mean, and how many of these runs are noisy."""
        noisy = sum(bool(run["noisy"]) for run in self.runs)
        marks = explain(self.runs, estimates=False)
        verb = "is" if noisy == 1 else "are"
        return Notes([*marks, f"{noisy} of these {len(self.runs)} runs {verb} noisy."])

    # Writing

    def write_html(self, file: str | PathLike[str]) -> Path:
        """Write the page for a browser."""
        from profiling.report.read.runs import Runs
        from profiling.report.write.html import to_html

        path = Path(file)
        found = Runs(runs=list(self.runs), problems=list(self.problems))
        folders = {run.record.folder.parent for run in self.runs}
        # A comparison that the page tells to type is of one folder.
        page = to_html(found, results=str(min(folders, default="results")))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8", newline="\n")
        return path


def _has_values(run: Run, keys: Mapping[str, object]) -> bool:
    return all(
        any(
            _is(run.setting(key), one) for one in (wanted if isinstance(wanted, list) else [wanted])
        )
        for key, wanted in keys.items()
    )


def _is(value: object, wanted: object) -> bool:
    return (
        value == wanted
        if wanted is not None and not isinstance(wanted, str)
        else is_value(value, "null" if wanted is None else str(wanted))
    )


def _started(run: Run) -> tuple[Any, ...]:
    from profiling.report.read.plain_runs import started

    return tuple(started(run.record))
