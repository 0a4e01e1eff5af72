"""The page that sets every optimization of every model beside the plain one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from profiling.report.draw.figures import Dot, draw_plane
from profiling.report.read.plain_runs import BASELINE
from profiling.report.read.readings import read_phase_repeats
from profiling.report.read.runs import Run, forget, values_of
from profiling.report.read.sweeps import (
    Sweep,
    describe_setting,
    find_sweeps,
    is_timed,
    newest,
)
from profiling.report.say import escape
from profiling.report.say import sentences as words
from profiling.report.say.differences import ScoreDifference
from profiling.report.say.marks import mark_noise, mark_weights
from profiling.report.say.pareto import costs_of, front_of
from profiling.report.say.two_runs import error_difference, likelihood_difference
from profiling.report.say.units import (
    NOTHING,
    digits,
    quantity,
    say_ratio,
)
from profiling.report.say.verdicts import plain_of
from profiling.report.write.markdown import (
    Column,
    number_columns,
    run_column,
    table,
    text_column,
)
from profiling.report.write.sections import Paper, section, show_marks
from profiling.statistics.ratios import compare_speed

STEM = "optimizations"
SHOWN_PHASES = ("total", "vision", "projector", "prefill", "decode")
_NEVER = "never"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One run and the plain run that it is held against."""

    run: Run
    plain: Run

    @property
    def is_plain(self) -> bool:
        return self.run is self.plain

    def gained_s(self) -> float:
        """Seconds that a batch takes less."""
        return float(self.plain["latency_s"] - self.run["latency_s"])

    def pays_after(self) -> str:
        """How many batches until the time it took to make the variant is saved again."""
        making = self.run.number("make_s")
        if self.is_plain or making is None:
            return NOTHING
        return _NEVER if self.gained_s() <= 0 else f"{making / self.gained_s():.0f}"

    def wer_change(self) -> str:
        mine, other = self.run.number("wer"), self.plain.number("wer")
        if self.is_plain or mine is None or other is None:
            return NOTHING
        return (
            "0" if mine == other else f"{'+' if mine > other else MINUS}{digits(abs(mine - other))}"
        )


def write_variants(paper: Paper, runs: Sequence[Run], command: str) -> list[str]:
    """The page, or nothing where no optimization has a plain run beside it."""
    sweeps = _pick_sweeps(runs)
    if not sweeps:
        return []
    shown = [run for sweep in sweeps for run in sweep.runs]
    models = {run["model"] for run in shown}
    lost = [r for r in newest(runs) if r["optimization"] != BASELINE and r["model"] in models]
    return [
        "# Optimizations against the plain model",
        "",
        *(f"- {_lead(sweep)}" for sweep in sweeps),
        "",
        *(line for n, sweep in enumerate(sweeps) for line in _show_model(paper, sweep, str(n))),
        *_show_lost(lost),
        "## How speed-ups are taken",
        "",
        "- A speed-up is the plain model's median over the variant's; its interval joins those of"
        " both medians. Runs made hours apart share no mood of the machine.",
        "- It pays after so many batches of this setting: the time to make the variant over the"
        " time that a batch saves. What has to be made anew in each process counts each time.",
        "- Changes a sample are means over the samples that both answered, with 95% intervals; in"
        " bold where the interval leaves out no change. A token of a reference costs the model so"
        " many nats: that sees a loss which changes no answer yet.",
        "- On the front: beaten by no other variant of the model at once in latency and word error"
        " rate, nor in energy where it was measured.",
        "",
        *show_marks(shown, command),
    ]


def _pick_sweeps(runs: Sequence[Run]) -> list[Sweep]:
    """For each model the setting at which most variants ran beside the plain model."""
    picked = []
    for model in values_of(runs, "model"):
        own = [run for run in runs if run["model"] == model and is_timed(run)]
        swept = [s for s in find_sweeps(own, "optimization") if plain_of(s.runs) is not None]
        picked += swept[:1]
    return picked


def _lead(sweep: Sweep) -> str:
    model = escape.markdown(sweep.runs[0]["model"]) + mark_weights(sweep.runs[0])
    said = words.say_optimizations(sweep)
    return f"{model}: {said}" if said else f"{model}: no variant could be held against it."


def _show_model(paper: Paper, sweep: Sweep, figure: str) -> list[str]:
    plain = plain_of(sweep.runs)
    assert plain is not None
    variants = [Variant(run=run, plain=plain) for run in sweep.runs]
    variants.sort(key=lambda variant: not variant.is_plain)
    fixed = escape.markdown(describe_setting(plain, without=["optimization"]))
    lines = [
        f"All at {fixed}, on {escape.markdown(plain['device'])}.",
        "",
        *table([*_names(variants), *_speedups(variants)]),
        "",
        *table([*_names(variants), *_effects(variants)]),
        "",
        *_show_answers(variants),
        *_draw(paper, variants, figure),
    ]
    return section(escape.markdown(plain["model"]) + mark_weights(plain), lines)


def _show_lost(lost: Sequence[Run]) -> list[str]:
    """The variants that this machine or this family cannot have, and why."""
    runs = [run for run in lost if not run.completed]
    errors = [escape.markdown(str(run.record.run.get("error") or NOTHING)) for run in runs]
    columns = [
        run_column(runs),
        *(text_column(runs, name) for name in ("model", "optimization", "status")),
        Column(head="error", cells=errors, is_text=True),
    ]
    return section("Not completed", table(columns) if runs else [])


def _names(variants: Sequence[Variant]) -> list[Column]:
    runs = [variant.run for variant in variants]
    names = [escape.markdown(run["optimization"]) for run in runs]
    return [run_column(runs), Column(head="optimization", cells=names, is_text=True)]


def _speedups(variants: Sequence[Variant]) -> list[Column]:
    repeats = [read_phase_repeats(forget(variant.run.record)) for variant in variants]
    plain = next(own for own, variant in zip(repeats, variants, strict=True) if variant.is_plain)
    return [
        Column(
            head="speed-up, all" if phase == "total" else f"speed-up, {phase}",
            cells=[
                NOTHING if v.is_plain else _speedup(plain.get(phase), own.get(phase), v.run)
                for own, v in zip(repeats, variants, strict=True)
            ],
            is_text=False,
        )
        for phase in SHOWN_PHASES
    ]


def _speedup(plain: Sequence[float] | None, own: Sequence[float] | None, run: Run) -> str:
    if not plain or not own or min(plain) <= 0 or min(own) <= 0:
        return NOTHING
    return say_ratio(compare_speed(plain, own)) + mark_noise(run)


def _effects(variants: Sequence[Variant]) -> list[Column]:
    runs = [variant.run for variant in variants]
    measured = ["peak_memory_bytes", "model_bytes", "energy_j", "energy_estimate_j", "agreement"]
    front = {run.name for run in _front(runs)}
    return [
        *number_columns(runs, [*measured, "wer"]),
        Column(head="WER change", cells=[v.wer_change() for v in variants], is_text=False),
        Column(
            head="on the front",
            cells=["yes" if r.name in front else "" for r in runs],
            is_text=True,
        ),
        Column(head="made in", cells=[_cost(r, "make_s", "s") for r in runs], is_text=False),
        Column(
            head="peak while made",
            cells=[_cost(r, "make_peak_bytes", "bytes") for r in runs],
            is_text=False,
        ),
        Column(
            head="files", cells=[_cost(r, "artifact_bytes", "bytes") for r in runs], is_text=False
        ),
        Column(
            head="pays after (batches)", cells=[v.pays_after() for v in variants], is_text=False
        ),
    ]


def _show_answers(variants: Sequence[Variant]) -> list[str]:
    """What a variant costs in quality, sample by sample: far finer than two rates side by side."""
    compared = {
        "WER a sample, change": error_difference,
        "nats per token of the references, change": likelihood_difference,
    }
    changes = []
    for head, compare in compared.items():
        found = [None if v.is_plain else compare(v.plain, v.run) for v in variants]
        if any(found):
            cells = [NOTHING if one is None else _say_change(one) for one in found]
            changes.append(Column(head=head, cells=cells, is_text=False))
    if not changes:
        return []
    likelihood = number_columns([v.run for v in variants], ["reference_nll"])
    return [*table([*_names(variants), *likelihood, *changes]), ""]


def _say_change(found: ScoreDifference) -> str:
    low, high = found.bounds.low, found.bounds.high
    said = f"{found.change:+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", MINUS)
    return f"**{said}**" if low > 0 or high < 0 else said


def _cost(run: Run, column: str, unit: str) -> str:
    return quantity(run.number(column), unit)


def _front(runs: Sequence[Run]) -> list[Run]:
    judged = [run for run in runs if costs_of(run, with_energy=False)]
    return front_of(judged, with_energy=all(run.number("energy_j") is not None for run in judged))


def _draw(paper: Paper, variants: Sequence[Variant], figure: str) -> list[str]:
    judged = [v.run for v in variants if costs_of(v.run, with_energy=False)]
    if len(judged) < 2:
        return []
    front = {run.name for run in _front(judged)}
    name = variants[0].plain["model"]
    draw_plane(
        paper.figure(figure),
        [
            Dot(group=run["optimization"], x=cost[0], y=cost[1], on_front=run.name in front)
            for run in judged
            if (cost := costs_of(run, with_energy=False))
        ],
        title=f"{name}{mark_weights(judged[0])}: filled points are beaten by no other",
        x_name="latency per sample",
        x_unit="s",
        y_name="word error rate",
    )
    return paper.show(figure, "Word error rate against latency per sample, a point a variant")
