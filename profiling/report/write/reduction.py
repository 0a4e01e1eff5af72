"""The page that compares methods of token reduction with random tokens, kept at the same place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from profiling import metrics
from profiling.report.read.keys import list_differing
from profiling.report.read.runs import Run
from profiling.report.read.sweeps import is_timed, newest
from profiling.report.say import escape
from profiling.report.say.differences import ScoreDifference
from profiling.report.say.two_runs import error_difference, likelihood_difference
from profiling.report.say.units import NOTHING
from profiling.report.write.columns import Column, number_columns
from profiling.report.write.markdown import run_column, table
from profiling.report.write.sections import section, show_marks
from profiling.report.write.variants import say_change

STEM = "token_reduction"
_KEYS = "optimization.token_pruning"
_METHOD, _KEEP, _LAYER = (f"{_KEYS}.{name}" for name in ("method", "keep", "layer"))
_SEED = f"{_KEYS}.seed"
_CONTROL = "random"
_KEPT, _PLACE = "visual_tokens_kept", "pruned_from_layer"
_SHOWN = (
    *(_KEPT, "wer", "accuracy", "reference_nll"),
    *("latency_s", "vision_s", "prefill_s", "decode_s", "energy_j"),
)
Compare = Callable[[Run, Run], ScoreDifference | None]
_COMPARED: dict[str, Compare] = {
    "wer": error_difference,
    "reference_nll": likelihood_difference,
}


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """A run that left out visual tokens, and the control at the same layer and share."""

    run: Run
    control: Run | None

    def change(self, compare: Compare) -> ScoreDifference | None:
        return None if self.control is None else compare(self.control, self.run)


def write_reduction(runs: Sequence[Run], command: str) -> list[str]:
    """The page; nothing where no run left out visual tokens."""
    reduced = [r for r in newest(runs) if is_timed(r) and r.number(_KEPT) and r[_METHOD]]
    if not reduced:
        return []
    lines = [
        "# Token reduction against random tokens",
        "",
        "- A method is compared with random tokens that are kept at the same share, from the same"
        " decoder layer on, of the same samples: changes are means per sample with 95% intervals,"
        " in bold where the interval excludes zero. Below zero is better than random.",
        "- Only what the interval shows is a difference: without bold, a method is not better than"
        " random here.",
        "",
    ]
    for group in _group(reduced):
        lines += section(_title(group[0]), _show(group))
    return [*lines, *show_marks(reduced, command)]


def _group(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in method, share, layer and seed alone."""
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            differing = list_differing([group[0].settings, run.settings])
            if set(differing) <= {_METHOD, _KEEP, _LAYER, _SEED}:
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def _title(run: Run) -> str:
    values = ", ".join(str(run[name]) for name in ("model", "dataset", "optimization"))
    return escape.markdown(f"{values}, {run['img_size']} px, batch size {run['batch_size']}")


def _show(runs: Sequence[Run]) -> list[str]:
    ordered = sorted(runs, key=_order)
    controls = {_place(run): run for run in ordered if run[_METHOD] == _CONTROL}
    rows = [_beside(run, controls.get(_place(run))) for run in ordered]
    return [*table([*_names(rows), *number_columns(ordered, _SHOWN), *_changes(rows)]), ""]


def _beside(run: Run, control: Run | None) -> Reduced:
    return Reduced(run=run, control=None if control is run else control)


def _place(run: Run) -> tuple[float | None, float | None]:
    return run.number(_PLACE), run.number(_KEEP)


def _order(run: Run) -> tuple[float, float, bool, str]:
    layer, keep = _place(run)
    method = str(run[_METHOD])
    return layer or 0, -(keep or 0), method != _CONTROL, method


def _names(rows: Sequence[Reduced]) -> list[Column]:
    runs = [row.run for row in rows]
    methods = [escape.markdown(str(run[_METHOD])) for run in runs]
    layers = [
        NOTHING if run.number(_PLACE) is None else f"{run.number(_PLACE):.0f}" for run in runs
    ]
    keeps = [str(run[_KEEP]) for run in runs]
    return [
        run_column(runs),
        Column(head="method", cells=methods, is_text=True),
        Column(head="from layer", cells=layers, is_text=False),
        Column(head="keep", cells=keeps, is_text=False),
    ]


def _changes(rows: Sequence[Reduced]) -> list[Column]:
    return [
        Column(
            head=f"{metrics.find(name).words}, change from random",
            cells=[
                NOTHING if (found := row.change(compare)) is None else say_change(found)
                for row in rows
            ],
            is_text=False,
        )
        for name, compare in _COMPARED.items()
    ]
