"""The page that compares methods of token reduction with random tokens, kept at the same place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from profiling import metrics
from profiling.metrics import TOTAL
from profiling.report.draw.figures import draw_lines
from profiling.report.read.keys import list_differing
from profiling.report.read.paired import PairedTimes
from profiling.report.read.runs import Run
from profiling.report.read.sweeps import is_timed, newest
from profiling.report.say import escape
from profiling.report.say.differences import ScoreDifference
from profiling.report.say.marks import mark_weights
from profiling.report.say.reduction import Kept, say_answers, say_times
from profiling.report.say.two_runs import error_difference, likelihood_difference
from profiling.report.say.units import NOTHING
from profiling.report.write.columns import Column, number_columns
from profiling.report.write.markdown import fold, run_column, table
from profiling.report.write.sections import Page, section, show_marks
from profiling.report.write.variants import Variant, say_change, speedup_columns

STEM = "token_reduction"
_KEYS = "optimization.token_pruning"
_METHOD, _KEEP, _LAYER = (f"{_KEYS}.{name}" for name in ("method", "keep", "layer"))
_SEED = f"{_KEYS}.seed"
_CONTROL, _FULL = "random", "full model"
_KEPT, _PLACE = "visual_tokens_kept", "pruned_from_layer"
_ANSWERS = (_KEPT, "wer", "accuracy", "reference_nll")
_COSTS = (
    *("latency_s", "preprocess_s", "vision_s", "projector_s", "prefill_s", "decode_s"),
    *("energy_j", "energy_estimate_j"),
)
Compare = Callable[[Run, Run], ScoreDifference | None]
_COMPARED: dict[str, Compare] = {
    "wer": error_difference,
    "reference_nll": likelihood_difference,
}
# Whose speed-up is said and drawn: the whole, and the phase in which the tokens are missing.
_SPED_UP = (TOTAL, "prefill")


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """A run that left out visual tokens, the control at its place, and the full model."""

    run: Run
    control: Run | None
    full: Run | None

    @property
    def place(self) -> tuple[float | None, float | None]:
        """The layer from which on tokens are missing, and the share that is kept."""
        return _place(self.run)

    @property
    def name(self) -> str:
        """The method, and the layer where it is not before the decoder."""
        layer, _ = self.place
        method = str(self.run[_METHOD])
        return f"{method} from layer {layer:.0f}" if layer else method

    @property
    def kept(self) -> Kept:
        return Kept(method=self.name, keep=str(self.run[_KEEP]))

    @property
    def variant(self) -> Variant | None:
        return None if self.full is None else Variant(run=self.run, plain=self.full)

    @property
    def paired(self) -> PairedTimes | None:
        return None if self.variant is None else self.variant.paired

    def change(self, compare: Compare) -> ScoreDifference | None:
        return None if self.control is None else compare(self.control, self.run)


def write_reduction(page: Page, runs: Sequence[Run], command: str) -> list[str]:
    """The page; nothing where no run left out visual tokens."""
    timed = [run for run in newest(runs) if is_timed(run)]
    reduced = [run for run in timed if run.number(_KEPT) and run[_METHOD]]
    if not reduced:
        return []
    named = {run.name: run for run in runs}
    groups = [_relate(group, named) for group in _group(reduced)]
    shown = [run for rows in groups for run in _with_full(rows)]
    lines = [
        "# Token reduction against random tokens",
        "",
        "- A method is compared with random tokens that are kept at the same share, from the same"
        " decoder layer on, of the same samples: changes are means per sample with 95% intervals,"
        " in bold where the interval excludes zero. Below zero is better than random.",
        "- Only what the interval shows is a difference: without bold, a method is not better than"
        " random here.",
        "- A speed-up is the time of the full model over that with fewer tokens; choosing the"
        " tokens is in the time of the prefill.",
        "- Shares that are kept stand in brackets. Each interval is for its own run: of twenty,"
        " about one misses the truth.",
        "",
    ]
    for number, rows in enumerate(groups):
        lines += section(_title(rows[0].run), _show(page, rows, str(number)))
    return [*lines, *show_marks(shown, command)]


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


def _relate(runs: Sequence[Run], named: Mapping[str, Run]) -> list[Reduced]:
    """Each run with its control and its baseline: by layer and share, the control first."""
    ordered = sorted(runs, key=_order)
    controls = {_place(run): run for run in ordered if run[_METHOD] == _CONTROL}
    found = []
    for run in ordered:
        control = controls.get(_place(run))
        own = None if control is run else control
        found.append(Reduced(run=run, control=own, full=named.get(run.baseline or "")))
    return found


def _with_full(rows: Sequence[Reduced]) -> list[Run]:
    """The runs of the rows, after the full model where there is one."""
    full = {row.full.name: row.full for row in rows if row.full is not None}
    return [*full.values(), *(row.run for row in rows)]


def _title(run: Run) -> str:
    values = ", ".join(str(run[name]) for name in ("model", "dataset", "optimization"))
    size = f"{run['img_size']} px, batch size {run['batch_size']}"
    return escape.markdown(f"{values}, {size}") + mark_weights(run)


def _show(page: Page, rows: Sequence[Reduced], figure: str) -> list[str]:
    full = _with_full(rows)[: -len(rows)]
    answers = [*_names(rows, full), *number_columns([*full, *_runs(rows)], _ANSWERS)]
    costs = [*_names(rows, full), *number_columns([*full, *_runs(rows)], _COSTS)]
    return [
        *_say(rows),
        *(line for name in _COMPARED for line in _draw_answers(page, rows, full, name, figure)),
        *table([*answers, *_changes(rows, full)]),
        "",
        *_show_speed(rows),
        *(line for phase in _SPED_UP for line in _draw_speed(page, rows, phase, figure)),
        *fold("Times by phase, and energy", table(costs)),
    ]


def _runs(rows: Sequence[Reduced]) -> list[Run]:
    return [row.run for row in rows]


def _place(run: Run) -> tuple[float | None, float | None]:
    return run.number(_PLACE), run.number(_KEEP)


def _order(run: Run) -> tuple[float, float, bool, str]:
    layer, keep = _place(run)
    method = str(run[_METHOD])
    return layer or 0, -(keep or 0), method != _CONTROL, method


def _say(rows: Sequence[Reduced]) -> list[str]:
    """What the intervals show, a line for each measure; nothing where none was compared."""
    lines = []
    for name, compare in _COMPARED.items():
        changes = [(row.kept, found) for row in rows if (found := row.change(compare)) is not None]
        if changes:
            lines.append(f"- {say_answers(metrics.find(name).words.capitalize(), changes)}")
    pairs = [(row.kept, row.paired) for row in rows if row.paired is not None]
    for phase in _SPED_UP:
        speeds = [(kept, pair.times[phase]) for kept, pair in pairs if phase in pair.times]
        if speeds:
            lines.append(f"- {say_times(phase, speeds)}")
    return [*lines, ""] if lines else []


# Tables


def _names(rows: Sequence[Reduced], full: Sequence[Run]) -> list[Column]:
    runs = [*full, *_runs(rows)]
    layers = [NOTHING if row.place[0] is None else f"{row.place[0]:.0f}" for row in rows]
    filled = [NOTHING] * len(full)
    methods = [escape.markdown(str(row.run[_METHOD])) for row in rows]
    return [
        run_column(runs),
        Column(head="method", cells=[_FULL] * len(full) + methods, is_text=True),
        Column(head="from layer", cells=filled + layers, is_text=False),
        Column(head="keep", cells=filled + [str(row.run[_KEEP]) for row in rows], is_text=False),
    ]


def _changes(rows: Sequence[Reduced], full: Sequence[Run]) -> list[Column]:
    return [
        Column(
            head=f"{metrics.find(name).words}, change from random",
            cells=[
                *[NOTHING] * len(full),
                *(
                    NOTHING if (found := row.change(compare)) is None else say_change(found)
                    for row in rows
                ),
            ],
            is_text=False,
        )
        for name, compare in _COMPARED.items()
    ]


def _show_speed(rows: Sequence[Reduced]) -> list[str]:
    """The speed-ups over the full model; nothing where it was not run."""
    known = [(row, row.variant) for row in rows if row.variant is not None]
    if not known:
        return []
    names = _names([row for row, _ in known], [])
    return [*table([*names, *speedup_columns([variant for _, variant in known])]), ""]


# Figures


def _draw_answers(
    page: Page, rows: Sequence[Reduced], full: Sequence[Run], name: str, figure: str
) -> list[str]:
    """A measure of the answers against the share that is kept, a line for each method."""
    points: dict[str, list[tuple[float, Run]]] = {}
    for row in rows:
        points.setdefault(row.name, []).append((row.place[1] or 0.0, row.run))
    if full:
        points[_FULL] = [(1.0, full[0])]
    metric = metrics.find(name)
    values = {
        group: sorted((x, y) for x, run in own if (y := run.number(name)) is not None)
        for group, own in points.items()
    }
    bounds = {
        group: [(x, i.low, i.high) for x, run in own if (i := run.interval(name)) is not None]
        for group, own in points.items()
    }
    title = f"{metric.words.capitalize()} against the share of visual tokens that is kept"
    return _draw(page, f"{name}_{figure}", values, bounds, title, metric.words, metric.unit)


def _draw_speed(page: Page, rows: Sequence[Reduced], phase: str, figure: str) -> list[str]:
    """Paired speed-ups against the share that is kept, a line for each method."""
    values: dict[str, list[tuple[float, float]]] = {}
    bounds: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        ratio = None if row.paired is None else row.paired.times.get(phase)
        if ratio is not None:
            keep = row.place[1] or 0.0
            values.setdefault(row.name, []).append((keep, ratio.value))
            if ratio.low is not None and ratio.high is not None:
                bounds.setdefault(row.name, []).append((keep, ratio.low, ratio.high))
    metric = metrics.find("speedup")
    words = metric.words + ("" if phase == TOTAL else f" of the {phase}")
    title = f"{words.capitalize()} against the share of visual tokens that is kept"
    ordered = {group: sorted(own) for group, own in values.items()}
    return _draw(page, f"speed_{phase}_{figure}", ordered, bounds, title, words, metric.unit)


def _draw(
    page: Page,
    name: str,
    values: Mapping[str, Sequence[tuple[float, float]]],
    bounds: Mapping[str, Sequence[tuple[float, float, float]]],
    title: str,
    y_name: str,
    unit: str,
) -> list[str]:
    drawn = {group: points for group, points in values.items() if points}
    shares = {x for group, points in drawn.items() if group != _FULL for x, _ in points}
    if len(shares) < 2:
        return []
    draw_lines(
        page.figure(name),
        drawn,
        title=title,
        x_name="share of visual tokens kept",
        y_name=y_name,
        unit=unit,
        bounds={group: own for group, own in bounds.items() if group in drawn},
    )
    return page.show(name, title)
