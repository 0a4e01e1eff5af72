"""Write the markdown pages: a page a model, named after it, and one that compares them."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from profiling.report.draw.figures import (
    Dot,
    draw_lines,
    draw_plane,
    draw_stacks,
)
from profiling.report.read.plain_runs import identify_setting
from profiling.report.read.runs import Run, Runs, values_of
from profiling.report.read.sweeps import (
    ALL_SETTING_COLUMNS,
    GROWING_KEYS,
    ROUND,
    Sweep,
    describe_setting,
    find_sweeps,
    is_timed,
    newest,
    pick_reference,
    plainness,
)
from profiling.report.say import escape
from profiling.report.say import sentences as words
from profiling.report.say.marks import ESTIMATED, mark_run, mark_weights
from profiling.report.say.pareto import costs_of, front_of, group_comparable
from profiling.report.say.units import unit_of
from profiling.report.write.limits import show_roofline
from profiling.report.write.markdown import (
    number_columns,
    run_column,
    setting_column,
    table,
)
from profiling.report.write.markdown import setting_columns as varying_columns
from profiling.report.write.published import STEM as PUBLISHED
from profiling.report.write.published import write_published
from profiling.report.write.sections import (
    KEY_NAMES,
    OVERVIEW,
    Paper,
    list_bounds,
    paragraph,
    phase_columns,
    section,
    show_all,
    show_compute,
    show_examples,
    show_marks,
    show_quality,
    show_sweep,
    show_unfinished,
    stack_phases,
)
from profiling.report.write.variants import STEM as VARIANTS
from profiling.report.write.variants import write_variants

INDEX = "index"
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
LONGEST_FRONT = 12


def write_pages(found: Runs, output: Path, *, command: str) -> Path:
    """Write all pages and figures into a folder; gives the page to open first."""
    output.mkdir(parents=True, exist_ok=True)
    models = [model for model in values_of(found.runs, "model") if model is not None]
    for model in models:
        own = newest([run for run in found.runs if run["model"] == model])
        paper = Paper(output=output, stem=stem_of(model))
        _write(output, paper.stem, write_model_page(paper, model, own, command))
    published = write_published(found.runs, command)
    if published:
        _write(output, PUBLISHED, published)
    index = write_index(Paper(output=output, stem=INDEX), found, models, command)
    variants = write_variants(Paper(output=output, stem=VARIANTS), found.runs, command)
    if variants:
        _write(output, VARIANTS, variants)
        index = [*index, f"- [Optimizations against the plain model]({VARIANTS}.md)"]
    if published:
        index = [*index, f"- [A published table, measured again]({PUBLISHED}.md)"]
    return _write(output, INDEX, index)


def stem_of(model: str) -> str:
    """The model's name, where it can be a file's name; a record may hold any text."""
    if _STEM.fullmatch(model) and model not in (INDEX, PUBLISHED, VARIANTS):
        return model
    return f"model-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def _write(output: Path, stem: str, lines: Sequence[str]) -> Path:
    path = output / f"{stem}.md"
    text = "\n".join(lines).rstrip() + "\n"
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_model_page(paper: Paper, model: str, runs: Sequence[Run], command: str) -> list[str]:
    """One model: the answer first, then what it rests on."""
    timed = [run for run in runs if is_timed(run)]
    lines = [f"# {escape.markdown(model)}", ""]
    if timed:
        lines += _write_measured(paper, timed)
    else:
        lines += ["No run of this model completed.", ""]
    return [
        *lines,
        *show_unfinished(runs),
        *section("What was measured", list_origin(runs)),
        *show_all(runs),
        *show_marks(runs, command),
    ]


def _write_measured(paper: Paper, timed: Sequence[Run]) -> list[str]:
    reference = pick_reference(timed)
    sweeps = [swept[0] for key in GROWING_KEYS if (swept := find_sweeps(timed, key))]
    optimizations = find_sweeps(timed, "optimization")[:1]
    shown = [*sweeps, *optimizations]
    return [
        *paragraph(words.say_latency(reference)),
        *_say_sweeps(shown),
        *(line for sweep in shown for line in show_sweep(paper, sweep)),
        *show_compute(paper, shown[0] if shown else None, timed),
        *show_roofline(paper, reference),
        *show_quality(_distinct(shown) or timed),
        *show_examples(paper, reference),
    ]


def _say_sweeps(sweeps: Sequence[Sweep]) -> list[str]:
    said = [
        words.say_optimizations(sweep) if sweep.key == "optimization" else words.say_growth(sweep)
        for sweep in sweeps
    ]
    return [*(f"- {sentence}" for sentence in said if sentence), ""]


def _distinct(sweeps: Sequence[Sweep]) -> list[Run]:
    runs = {run.name: run for sweep in sweeps for run in sweep.runs}
    return list(runs.values())


def write_index(paper: Paper, found: Runs, models: Sequence[str], command: str) -> list[str]:
    """The page that compares: models at one setting, the best trade-offs, and every page."""
    runs = newest(found.runs)
    compared = pick_comparison([run for run in runs if is_timed(run)])
    return [
        "# Comparison",
        "",
        *paragraph(words.say_ranking(compared)),
        *_say_models(runs, models),
        *paragraph(" ".join((words.say_outcomes(found.runs), *words.say_origin(found.runs)))),
        *section("Models side by side", compare_models(paper, compared)),
        *section("How cost grows", grow_models(paper, [run for run in runs if is_timed(run)])),
        *section("Best trade-offs", show_fronts(paper, [run for run in runs if is_timed(run)])),
        *section("Pages", [_link(model, runs) for model in models]),
        *show_unfinished(runs),
        *show_marks(found.runs, command),
    ]


def _say_models(runs: Sequence[Run], models: Sequence[str]) -> list[str]:
    """What dominates in each model, at the setting that is plainest for it."""
    lines = []
    for model in models:
        own = [run for run in runs if run["model"] == model and is_timed(run)]
        if own:
            name = f"[{escape.markdown(model)}]({stem_of(model)}.md)"
            lines.append(f"- {name}: {words.say_latency(pick_reference(own))}")
    return [*lines, ""]


def list_origin(runs: Sequence[Run]) -> list[str]:
    return [f"- {sentence}" for sentence in (words.say_outcomes(runs), *words.say_origin(runs))]


def _link(model: str, runs: Sequence[Run]) -> str:
    own = [run for run in runs if run["model"] == model]
    return f"- [{escape.markdown(model)}]({stem_of(model)}.md): {words.say_outcomes(own)}"


def pick_comparison(timed: Sequence[Run]) -> list[Run]:
    """One run a model, all at the setting that most models share; sizes may be their own."""
    shared = _share_setting(timed, "model")
    own_sizes = _share_setting(timed, "model", "img_size")
    return own_sizes if len(own_sizes) > len(shared) else shared


def _share_setting(timed: Sequence[Run], *without: str) -> list[Run]:
    groups: dict[str, dict[str, Run]] = defaultdict(dict)
    for run in sorted(timed, key=plainness, reverse=True):
        groups[identify_setting(run.record, ROUND, *without)][run["model"]] = run
    if not groups:
        return []
    best = min(groups.values(), key=lambda g: (-len(g), min(plainness(run) for run in g.values())))
    return [best[model] for model in sorted(best)]


def compare_models(paper: Paper, compared: Sequence[Run]) -> list[str]:
    if len(compared) < 2:
        return []
    own = [key for key in ("img_size",) if len(values_of(compared, key)) > 1]
    draw_stacks(
        paper.figure("models"),
        [stack_phases(run, label=run["model"] + mark_run(run)) for run in compared],
        title=f"One batch by phase, {describe_setting(compared[0], without=own)}",
        x_name="",
        y_name="latency",
        unit="s",
    )
    setting = escape.markdown(describe_setting(compared[0], without=own))
    costs = ["latency_s", *(c for c in OVERVIEW if c not in ("latency_s", "agreement", "speedup"))]
    names = [setting_column(compared, key) for key in ("model", *own)]
    return [
        f"All at {setting}.",
        "",
        *paper.show("models", "Latency by phase for each model"),
        *table(
            [
                run_column(compared),
                *names,
                *number_columns(compared, ["latency_s"]),
                *phase_columns(compared),
            ]
        ),
        "",
        *table([run_column(compared), *names, *number_columns(compared, costs[1:])]),
    ]


def grow_models(paper: Paper, timed: Sequence[Run]) -> list[str]:
    """Costs against a growing size, a line a model, at the setting that most models share."""
    lines: list[str] = []
    for key in GROWING_KEYS:
        sweeps = pick_shared_sweeps(timed, key)
        if sweeps:
            lines += _grow(paper, key, sweeps)
    return lines


def pick_shared_sweeps(timed: Sequence[Run], key: str) -> list[Sweep]:
    """One sweep a model, all at the setting that most models were swept at."""
    groups: dict[tuple[str, str], list[Sweep]] = defaultdict(list)
    for sweep in find_sweeps([run for run in timed if run[key] is not None], key):
        first = sweep.runs[0]
        groups[first["weights"], describe_setting(first, without=[key])].append(sweep)
    shared = min(groups.values(), key=lambda group: -len(group), default=[])
    chosen = {sweep.runs[0]["model"]: sweep for sweep in reversed(shared)}
    return [chosen[model] for model in sorted(chosen)]


def _grow(paper: Paper, key: str, sweeps: Sequence[Sweep]) -> list[str]:
    fixed = describe_setting(sweeps[0].runs[0], without=[key])
    laws = [
        f"- {escape.markdown(sweep.runs[0]['model'])}: {said}"
        for sweep in sweeps
        if (said := f"{words.say_growth(sweep)} {words.say_law(sweep)}".strip())
    ]
    return [
        f"### {KEY_NAMES[key]}",
        "",
        f"All at {escape.markdown(fixed)}.",
        "",
        *laws,
        "",
        *(line for column in _grown_columns(sweeps) for line in _draw(paper, key, sweeps, column)),
    ]


def _grown_columns(sweeps: Sequence[Sweep]) -> list[str]:
    """Latency, energy as good as it is known of all runs, and quality, where there is any."""
    runs = [run for sweep in sweeps for run in sweep.runs]
    complete = [
        column
        for column in ("latency_s", "energy_j", "energy_estimate_j", "wer")
        if all(run.number(column) is not None for run in runs)
    ]
    return [c for c in complete if c != "energy_estimate_j" or "energy_j" not in complete]


def _draw(paper: Paper, key: str, sweeps: Sequence[Sweep], column: str) -> list[str]:
    axis = KEY_NAMES[key].lower() + (" (px)" if key == "img_size" else "")
    what = {"latency_s": "latency of one batch", "wer": "word error rate"}.get(
        column, "energy per sample" + (f", {ESTIMATED} estimated" if "estimate" in column else "")
    )
    draw_lines(
        paper.figure(f"{key}_{column}"),
        {
            sweep.runs[0]["model"] + mark_weights(sweep.runs[0]): [
                (float(run[key]), run.number(column) or 0.0) for run in sweep.runs
            ]
            for sweep in sweeps
        },
        title=describe_setting(sweeps[0].runs[0], without=[key]),
        x_name=axis,
        y_name=what,
        unit=unit_of(column),
        bounds={
            sweep.runs[0]["model"] + mark_weights(sweep.runs[0]): list_bounds(sweep, column)
            for sweep in sweeps
        },
    )
    return paper.show(f"{key}_{column}", f"{what.capitalize()} of each model against {axis}")


def show_fronts(paper: Paper, timed: Sequence[Run]) -> list[str]:
    """The runs that none beats at once in latency per sample, word error rate and energy."""
    groups = group_comparable([run for run in timed if run.number("wer") is not None])
    lines: list[str] = []
    for number, group in enumerate(groups[:3]):
        if len(group) > 1:
            lines += _show_front(paper, group, number)
    return lines


def _show_front(paper: Paper, group: Sequence[Run], number: int) -> list[str]:
    measured = all(run.number("energy_j") is not None for run in group)
    front = front_of(group, with_energy=measured)
    _draw_front(paper, group, front, f"front_{number}")
    shown = front[:LONGEST_FRONT]
    more = f" The {LONGEST_FRONT} quickest are shown." if len(front) > LONGEST_FRONT else ""
    respects = "latency per sample, word error rate and energy"
    if not measured:
        respects = "latency per sample and word error rate"
    return [
        f"On {escape.markdown(group[0]['dataset'])}, {len(front)} of {len(group)} runs are beaten"
        f" by no other in {respects} at once.{more}",
        "",
        *paper.show(f"front_{number}", "Word error rate against latency per sample"),
        *table(
            [
                run_column(shown),
                *varying_columns(shown, ALL_SETTING_COLUMNS),
                *number_columns(shown, OVERVIEW),
            ]
        ),
        "",
    ]


def _draw_front(paper: Paper, group: Sequence[Run], front: Sequence[Run], name: str) -> None:
    best = {run.name for run in front}
    dots = [
        Dot(group=run["model"] + mark_weights(run), x=cost[0], y=cost[1], on_front=run.name in best)
        for run in group
        if (cost := costs_of(run, with_energy=False))
    ]
    draw_plane(
        paper.figure(name),
        dots,
        title=f"{group[0]['dataset']}: filled points are beaten by no other",
        x_name="latency per sample",
        x_unit="s",
        y_name="word error rate",
    )
