"""The page that compares every optimization of every model with the plain model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from profiling import metrics
from profiling.metrics import TOTAL
from profiling.report.draw.record_figures import draw_costs, name_costs
from profiling.report.read.paired import PairedTimes
from profiling.report.read.plain_runs import BASELINE, PAIRED, SEPARATE_RUNS
from profiling.report.read.runs import Run, find_paired, values_of
from profiling.report.read.sweeps import (
    Sweep,
    describe_setting,
    find_sweeps,
    is_timed,
    list_unfinished,
)
from profiling.report.say import escape, sentences
from profiling.report.say.differences import ScoreDifference
from profiling.report.say.marks import mark_speed, mark_weights
from profiling.report.say.pareto import costs_of, front_of
from profiling.report.say.sentences import excludes_one
from profiling.report.say.two_runs import error_difference, likelihood_difference
from profiling.report.say.units import NOTHING, difference, digits, say_ratio
from profiling.report.say.verdicts import plain_of
from profiling.report.write.columns import Column, number_columns
from profiling.report.write.markdown import fold, run_column, setting_columns, table, text_column
from profiling.report.write.sections import Page, error_column, section, show_marks
from profiling.statistics.ratios import Ratio

STEM = "optimizations"
SHOWN_PHASES = (TOTAL, "vision", "projector", "prefill", "decode")
_NEVER = "never"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One run and the run of the plain model that it is compared with."""

    run: Run
    plain: Run

    @property
    def is_plain(self) -> bool:
        return self.run is self.plain

    @property
    def paired(self) -> PairedTimes | None:
        return find_paired(self.plain, self.run)

    def speed(self, phase: str) -> Ratio | None:
        """The plain model's time of a phase over the variant's."""
        if self.paired is not None:
            return self.paired.times.get(phase)
        column = "latency_s" if phase == TOTAL else f"{phase}_s"
        times = [run.number(column) for run in (self.plain, self.run)]
        if not times[0] or not times[1] or min(times[0], times[1]) <= 0:
            return None
        return Ratio(value=times[0] / times[1], low=None, high=None, confidence=None)

    def source(self) -> str:
        if self.paired is None:
            return SEPARATE_RUNS
        return f"{PAIRED}, {self.paired.launches} launches"

    def mark(self) -> str:
        return mark_speed(self.paired, self.run, self.plain)

    def breaks_even_after(self) -> str:
        """The number of batches that save the time to make the variant, where it is shown to save.

        Only a paired comparison shows that.
        """
        making, speed = self.run.number("make_s"), self.speed(TOTAL)
        if self.is_plain or making is None or speed is None or not excludes_one(speed):
            return NOTHING
        saved_s = self.plain["latency_s"] * (1 - 1 / speed.value)
        return _NEVER if saved_s <= 0 else f"{making / saved_s:.0f}"

    def wer_change(self) -> str:
        mine, other = self.run.number("wer"), self.plain.number("wer")
        if self.is_plain or mine is None or other is None:
            return NOTHING
        return (
            "0" if mine == other else f"{'+' if mine > other else MINUS}{digits(abs(mine - other))}"
        )


def write_variants(page: Page, runs: Sequence[Run], command: str) -> list[str]:
    """The page; nothing where no optimization has a run of the plain model to compare with."""
    sweeps = _pick_sweeps(runs)
    if not sweeps:
        return []
    shown = [run for sweep in sweeps for run in sweep.runs]
    models = {run["model"] for run in shown}
    left = [run for run in list_unfinished(runs) if run["optimization"] != BASELINE]
    return [
        "# Optimizations against the plain model",
        "",
        *(f"- {_lead(sweep)}" for sweep in sweeps),
        "",
        *(line for n, sweep in enumerate(sweeps) for line in _show_model(page, sweep, str(n))),
        *_show_unfinished([run for run in left if run["model"] in models]),
        "## How speed-ups are computed",
        "",
        "- A speed-up is the plain model's time over the variant's. Measured in pairs, passes of"
        " both alternate in several pairs of fresh processes, and its 95% interval covers the"
        " variation within and between processes. From separate runs it is a ratio of medians"
        " without an interval: it includes the machine's drift, by an unknown amount.",
        "- Each interval is for its own variant: of twenty variants that are as fast as the plain"
        " model, about one lies outside of its own.",
        "- The break-even point is the time to make the variant over the time that one batch saves,"
        " at this setting, where a paired comparison shows that it saves any. What every process"
        " has to make again counts each time.",
        "- Changes per sample are means over the samples that both runs answered, with 95%"
        " intervals, in bold where the interval excludes zero; too few samples, or samples that all"
        " change alike, have no interval. The negative log-likelihood of the"
        " references also detects a loss that changes no answer.",
        "- On the front: no other variant of the model has better measured values at once in"
        " latency and word error rate, and in energy where it was measured.",
        "",
        *show_marks(shown, command),
    ]


def _pick_sweeps(runs: Sequence[Run]) -> list[Sweep]:
    """For each model the setting with most variants and a run of the plain model."""
    picked = []
    for model in values_of(runs, "model"):
        own = [run for run in runs if run["model"] == model and is_timed(run)]
        swept = [s for s in find_sweeps(own, "optimization") if plain_of(s.runs) is not None]
        picked += swept[:1]
    return picked


def _lead(sweep: Sweep) -> str:
    model = escape.markdown(sweep.runs[0]["model"]) + mark_weights(sweep.runs[0])
    said = sentences.say_optimizations(sweep)
    return f"{model}: {said}" if said else f"{model}: no variant can be compared with it."


def _show_model(page: Page, sweep: Sweep, figure: str) -> list[str]:
    plain = plain_of(sweep.runs)
    assert plain is not None
    variants = [Variant(run=run, plain=plain) for run in sweep.runs]
    variants.sort(key=lambda variant: not variant.is_plain)
    fixed = escape.markdown(describe_setting(plain, without=["optimization"]))
    lines = [
        f"All at {fixed}, on {escape.markdown(plain['device'])}.",
        "",
        *table([*_names(variants), *speedup_columns(variants)]),
        "",
        *fold("Costs, errors and break-even", table([*_names(variants), *_effects(variants)])),
        *_show_answers(variants),
        *_draw(page, variants, figure),
    ]
    return section(escape.markdown(plain["model"]) + mark_weights(plain), lines)


def _show_unfinished(runs: Sequence[Run]) -> list[str]:
    """The variants that this machine or family does not support, and why."""
    names = ("model", "optimization", "status")
    columns = [run_column(runs), *(text_column(runs, name) for name in names)]
    further = setting_columns(runs, without=names)
    lines = table([*columns, *further, error_column(runs)])
    return section("Not completed", lines if runs else [])


def _names(variants: Sequence[Variant]) -> list[Column]:
    runs = [variant.run for variant in variants]
    names = [escape.markdown(run["optimization"]) for run in runs]
    title = metrics.find("optimization").title
    return [run_column(runs), Column(head=title, cells=names, is_text=True)]


def speedup_columns(variants: Sequence[Variant]) -> list[Column]:
    """The times of the plain model over those of each variant, and how they were measured."""
    title = metrics.find("speedup").title
    shown = [
        Column(
            head=f"{title}, {'all' if phase == TOTAL else phase}",
            cells=[NOTHING if v.is_plain else _speedup(v, phase) for v in variants],
            is_text=False,
        )
        for phase in SHOWN_PHASES
    ]
    sources = [NOTHING if v.is_plain else v.source() for v in variants]
    return [*shown, Column(head="measured", cells=sources, is_text=True)]


def _speedup(variant: Variant, phase: str) -> str:
    """With an interval where both were measured in pairs; else a ratio of medians."""
    speed = variant.speed(phase)
    return NOTHING if speed is None else say_ratio(speed) + variant.mark()


def _effects(variants: Sequence[Variant]) -> list[Column]:
    runs = [variant.run for variant in variants]
    front = {run.name for run in _front(runs)}
    changes = [variant.wer_change() for variant in variants]
    counts = [variant.breaks_even_after() for variant in variants]
    return [
        *number_columns(runs, metrics.list_shown(metrics.VARIANTS)),
        Column(head=f"{metrics.find('wer').title} change", cells=changes, is_text=False),
        Column(
            head="on the front",
            cells=["yes" if run.name in front else "" for run in runs],
            is_text=True,
        ),
        Column(head="breaks even after (batches)", cells=counts, is_text=False),
    ]


def _show_answers(variants: Sequence[Variant]) -> list[str]:
    """The change in quality sample by sample, which is finer than a difference of two rates."""
    compared = {"wer": error_difference, "reference_nll": likelihood_difference}
    changes = []
    for name, compare in compared.items():
        found = [None if v.is_plain else compare(v.plain, v.run) for v in variants]
        if any(found):
            head = f"{metrics.find(name).words}, change per sample"
            cells = [NOTHING if one is None else say_change(one) for one in found]
            changes.append(Column(head=head, cells=cells, is_text=False))
    if not changes:
        return []
    likelihood = number_columns([v.run for v in variants], ["reference_nll"])
    return fold("Answers, sample by sample", table([*_names(variants), *likelihood, *changes]))


def say_change(found: ScoreDifference) -> str:
    if found.bounds is None:
        said = "0" if found.is_unchanged else f"{difference(found.change)} (no interval)"
        return said.replace("-", MINUS)
    low, high = difference(found.bounds.low), difference(found.bounds.high)
    said = f"{difference(found.change)} [{low}, {high}]".replace("-", MINUS)
    return f"**{said}**" if found.is_different else said


def _front(runs: Sequence[Run]) -> list[Run]:
    judged = [run for run in runs if costs_of(run, with_energy=False)]
    return front_of(judged, with_energy=all(run.number("energy_j") is not None for run in judged))


def _draw(page: Page, variants: Sequence[Variant], figure: str) -> list[str]:
    judged = [v.run for v in variants if costs_of(v.run, with_energy=False)]
    if len(judged) < 2:
        return []
    front = {run.name for run in _front(judged)}
    groups = {run.name: run["optimization"] for run in judged}
    title = f"{variants[0].plain['model']}{mark_weights(judged[0])}, the front is filled"
    draw_costs(page.figure(figure), judged, groups, front, title=title)
    return page.show(figure, f"{name_costs()}, a point per variant")
