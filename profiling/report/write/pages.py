"""Write the markdown pages: one per model, named after it, and one that compares models."""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from profiling import metrics
from profiling.metrics import GROWTH, OVERVIEW, REPORT
from profiling.report.draw.figures import draw_lines, draw_stacks
from profiling.report.draw.record_figures import (
    draw_costs,
    name_costs,
    stack_phases,
)
from profiling.report.read.keys import ROUND
from profiling.report.read.plain_runs import identify_setting
from profiling.report.read.readings import is_number
from profiling.report.read.runs import Run, Runs, order_of, values_of
from profiling.report.read.sweeps import (
    Sweep,
    describe_setting,
    find_sweeps,
    growing_keys,
    is_timed,
    pick_reference,
    plain_first,
    pool_rounds,
    variant_keys,
)
from profiling.report.say import escape, sentences
from profiling.report.say.marks import mark_estimate, mark_run, mark_weights
from profiling.report.say.pareto import front_of, group_comparable, say_front
from profiling.report.write.columns import number_columns, phase_columns
from profiling.report.write.engines import STEM as ENGINES
from profiling.report.write.engines import write_engines
from profiling.report.write.markdown import (
    fold_further,
    run_column,
    setting_column,
    setting_columns,
    table,
)
from profiling.report.write.operators import list_traced
from profiling.report.write.published import STEM as PUBLISHED
from profiling.report.write.published import write_published
from profiling.report.write.reduction import STEM as REDUCTION
from profiling.report.write.reduction import write_reduction
from profiling.report.write.sections import (
    Page,
    axis_of,
    list_bounds,
    name_course,
    paragraph,
    section,
    show_all,
    show_compute,
    show_examples,
    show_marks,
    show_quality,
    show_roofline,
    show_sweep,
    show_unfinished,
    title_of,
)
from profiling.report.write.variants import STEM as VARIANTS
from profiling.report.write.variants import write_variants

INDEX = "index"
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
LONGEST_FRONT = 12
# More tables on a page of a model are folded.
MOST_TABLES = 6


def write_pages(found: Runs, output: Path, *, command: str) -> Path:
    """Write all pages and figures into a folder; gives the index page."""
    output.mkdir(parents=True, exist_ok=True)
    models = [model for model in values_of(found.runs, "model") if model is not None]
    for model in models:
        own = pool_rounds([run for run in found.runs if run["model"] == model])
        page = Page(output=output, stem=stem_of(model))
        _write(output, page.stem, write_model_page(page, model, own, command))
    published = write_published(found.runs, command)
    if published:
        _write(output, PUBLISHED, published)
    variants = write_variants(Page(output=output, stem=VARIANTS), found.runs, command)
    links = []
    if variants:
        _write(output, VARIANTS, variants)
        links.append(f"- [Optimizations against the plain model]({VARIANTS}.md)")
    engines = write_engines(found.runs, command)
    if engines:
        _write(output, ENGINES, engines)
        links.append(f"- [Engines against torch]({ENGINES}.md)")
    reduction = write_reduction(Page(output=output, stem=REDUCTION), found.runs, command)
    if reduction:
        _write(output, REDUCTION, reduction)
        links.append(f"- [Token reduction against random tokens]({REDUCTION}.md)")
    if published:
        links.append(f"- [A published table, measured again]({PUBLISHED}.md)")
    page = Page(output=output, stem=INDEX)
    return _write(output, INDEX, write_index(page, found, models, links, command))


def stem_of(model: str) -> str:
    """The model's name where it is safe as a file name, because a record may hold any text."""
    if _STEM.fullmatch(model) and model not in (INDEX, ENGINES, PUBLISHED, REDUCTION, VARIANTS):
        return model
    return f"model-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def _write(output: Path, stem: str, lines: Sequence[str]) -> Path:
    path = output / f"{stem}.md"
    text = "\n".join(lines).rstrip() + "\n"
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_model_page(page: Page, model: str, runs: Sequence[Run], command: str) -> list[str]:
    """One model: the answer first, then the tables behind it."""
    timed = [run for run in runs if is_timed(run)]
    lines = [f"# {escape.markdown(model)}", ""]
    if timed:
        lines += _write_measured(page, timed)
    else:
        lines += ["No run of this model completed.", ""]
    lines += [
        *show_unfinished(runs),
        *section("What was measured", list_origin(runs)),
        *show_all(runs),
        *show_marks(runs, command),
    ]
    return fold_further(lines, most=MOST_TABLES)


def _write_measured(page: Page, timed: Sequence[Run]) -> list[str]:
    reference = pick_reference(timed)
    keys = (*growing_keys(timed), *variant_keys(timed))
    shown = [swept[0] for key in keys if (swept := find_sweeps(timed, key))]
    return [
        *paragraph(sentences.say_latency(reference)),
        *_say_sweeps(shown),
        *(line for sweep in shown for line in show_sweep(page, sweep)),
        *show_compute(page, shown[0] if shown else None, timed),
        *show_roofline(page, reference),
        *section("Where the time goes inside a phase", list_traced(timed)),
        *show_quality(_distinct(shown) or timed),
        *show_examples(page, reference),
    ]


def _say_sweeps(sweeps: Sequence[Sweep]) -> list[str]:
    said = [_say_sweep(sweep) for sweep in sweeps]
    return [*(f"- {sentence}" for sentence in said if sentence), ""]


def _say_sweep(sweep: Sweep) -> str:
    if sweep.key == "optimization":
        return sentences.say_optimizations(sweep)
    if sweep.key == "engine":
        return sentences.say_engines(sweep)
    return sentences.say_growth(sweep) if sweep.is_growing else ""


def _distinct(sweeps: Sequence[Sweep]) -> list[Run]:
    runs = {run.name: run for sweep in sweeps for run in sweep.runs}
    return list(runs.values())


def write_index(
    page: Page, found: Runs, models: Sequence[str], links: Sequence[str], command: str
) -> list[str]:
    """The index: models at one setting, growth, the best trade-offs, and links to all pages."""
    runs = pool_rounds(found.runs)
    compared = pick_comparison([run for run in runs if is_timed(run)])
    return [
        "# Comparison",
        "",
        *paragraph(sentences.say_ranking(compared)),
        *_say_models(runs, models),
        *paragraph(" ".join(sentences.say_scope(found.runs))),
        *section("Models side by side", compare_models(page, compared)),
        *section("How cost grows", grow_models(page, [run for run in runs if is_timed(run)])),
        *section("Best trade-offs", show_fronts(page, [run for run in runs if is_timed(run)])),
        *section("Pages", [*(_link(model, runs) for model in models), *links]),
        *show_unfinished(runs),
        *show_marks(found.runs, command),
    ]


def _say_models(runs: Sequence[Run], models: Sequence[str]) -> list[str]:
    """The dominant phase of each model, in its reference run."""
    lines = []
    for model in models:
        own = [run for run in runs if run["model"] == model and is_timed(run)]
        if own:
            name = f"[{escape.markdown(model)}]({stem_of(model)}.md)"
            lines.append(f"- {name}: {sentences.say_latency(pick_reference(own))}")
    return [*lines, ""]


def list_origin(runs: Sequence[Run]) -> list[str]:
    return [f"- {sentence}" for sentence in sentences.say_scope(runs)]


def _link(model: str, runs: Sequence[Run]) -> str:
    own = [run for run in runs if run["model"] == model]
    return f"- [{escape.markdown(model)}]({stem_of(model)}.md): {sentences.say_outcomes(own)}"


def pick_comparison(timed: Sequence[Run]) -> list[Run]:
    """One run per model at the setting that most models share; picture sizes may differ."""
    shared = _share_setting(timed, "model")
    own_sizes = _share_setting(timed, "model", "img_size")
    return own_sizes if len(own_sizes) > len(shared) else shared


def _share_setting(timed: Sequence[Run], *without: str) -> list[Run]:
    """Of settings that as many models share, the one with most samples."""
    groups: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in sorted(timed, key=plain_first):
        groups[identify_setting(run.record, ROUND, *without)][run["model"]].append(run)
    if not groups:
        return []

    def preference(group: Mapping[str, Sequence[Run]]) -> tuple[Any, ...]:
        first = min((runs[0] for runs in group.values()), key=plain_first)
        return -len(group), -(first.number("num_samples") or 0), plain_first(first)

    best = min(groups.values(), key=preference)
    common = _most_common_size(best.values())
    return [min(best[model], key=lambda run: _distance(run, common)) for model in sorted(best)]


def _most_common_size(groups: Iterable[Sequence[Run]]) -> Any:
    """The picture size that most models have, the smallest of several."""
    sizes = [size for runs in groups for size in {run["img_size"] for run in runs}]
    return min(set(sizes), key=lambda size: (-sizes.count(size), order_of(size)))


def _distance(run: Run, size: Any) -> float:
    """How far the pictures of a run are from a size."""
    own = run["img_size"]
    if own == size:
        return 0.0
    return abs(own - size) if is_number(own) and is_number(size) else math.inf


def compare_models(page: Page, compared: Sequence[Run]) -> list[str]:
    if len(compared) < 2:
        return []
    own = [key for key in ("img_size",) if len(values_of(compared, key)) > 1]
    setting = describe_setting(compared[0], without=own)
    latency = metrics.find("latency_s")
    draw_stacks(
        page.figure("models"),
        [stack_phases(run, label=run["model"] + mark_run(run)) for run in compared],
        title=f"{latency.words.capitalize()} by phase\n{setting}",
        x_name="",
        y_name=latency.title,
        unit=latency.unit,
    )
    costs = [name for name in metrics.list_shown(OVERVIEW) if name != latency.name]
    costs = [name for name in costs if metrics.find(name).given_by != (REPORT,)]
    names = [run_column(compared), *(setting_column(compared, key) for key in ("model", *own))]
    return [
        f"All at {escape.markdown(setting)}.",
        "",
        *page.show("models", f"{latency.title.capitalize()} by phase for each model"),
        *table([*names, *number_columns(compared, [latency.name]), *phase_columns(compared)]),
        "",
        *table([*names, *number_columns(compared, costs)]),
    ]


def grow_models(page: Page, timed: Sequence[Run]) -> list[str]:
    """Costs against a growing size, one line per model, at the setting that most models share."""
    lines: list[str] = []
    for key in growing_keys(timed):
        sweeps = pick_shared_sweeps(timed, key)
        if sweeps:
            lines += _grow(page, key, sweeps)
    return lines


def pick_shared_sweeps(timed: Sequence[Run], key: str) -> list[Sweep]:
    """One sweep per model, all at the setting at which most models were swept."""
    groups: dict[tuple[str, str], list[Sweep]] = defaultdict(list)
    for sweep in find_sweeps([run for run in timed if run[key] is not None], key):
        first = sweep.runs[0]
        groups[first["weights"], describe_setting(first, without=[key])].append(sweep)
    shared = min(groups.values(), key=lambda group: -len(group), default=[])
    chosen = {sweep.runs[0]["model"]: sweep for sweep in reversed(shared)}
    return [chosen[model] for model in sorted(chosen)]


def _grow(page: Page, key: str, sweeps: Sequence[Sweep]) -> list[str]:
    fixed = describe_setting(sweeps[0].runs[0], without=[key])
    laws = [
        f"- {escape.markdown(sweep.runs[0]['model'])}: {said}"
        for sweep in sweeps
        if (said := f"{sentences.say_growth(sweep)} {sentences.say_law(sweep)}".strip())
    ]
    return [
        f"### {title_of(key)}",
        "",
        f"All at {escape.markdown(fixed)}.",
        "",
        *laws,
        "",
        *(line for column in _grown_columns(sweeps) for line in _draw(page, key, sweeps, column)),
    ]


def _grown_columns(sweeps: Sequence[Sweep]) -> list[str]:
    """The metrics that all runs have; an estimate only where its measured one is missing."""
    runs = [run for sweep in sweeps for run in sweep.runs]
    complete = [
        name
        for name in metrics.list_shown(GROWTH)
        if all(run.number(name) is not None for run in runs)
    ]
    measured = {metrics.find(name).unit for name in complete if not metrics.find(name).is_estimate}
    return [
        name
        for name in complete
        if not (metrics.find(name).is_estimate and metrics.find(name).unit in measured)
    ]


def _draw(page: Page, key: str, sweeps: Sequence[Sweep], name: str) -> list[str]:
    axis, metric = axis_of(key), metrics.find(name)
    if not any(sentences.has_course(sweep, name) for sweep in sweeps):
        return []
    first = sweeps[0].runs[0]
    what = mark_estimate(first, name) + metric.words
    groups = {sweep.runs[0]["model"] + mark_weights(sweep.runs[0]): sweep for sweep in sweeps}
    draw_lines(
        page.figure(f"{key}_{name}"),
        {
            group: [(float(run[key]), run.number(name) or 0.0) for run in sweep.runs]
            for group, sweep in groups.items()
        },
        title=name_course(name, sweeps[0]),
        x_name=axis,
        y_name=what,
        unit=metric.unit,
        bounds={group: list_bounds(sweep, name) for group, sweep in groups.items()},
    )
    return page.show(f"{key}_{name}", f"{_capitalize(what)} of each model against {axis}")


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


def show_fronts(page: Page, timed: Sequence[Run]) -> list[str]:
    """The Pareto fronts of latency per sample, word error rate and energy."""
    groups = group_comparable([run for run in timed if run.number("wer") is not None])
    lines: list[str] = []
    for number, group in enumerate(groups[:3]):
        if len(group) > 1:
            lines += _show_front(page, group, number)
    return lines


def _show_front(page: Page, group: Sequence[Run], number: int) -> list[str]:
    measured = all(run.number("energy_j") is not None for run in group)
    front = front_of(group, with_energy=measured)
    _draw_front(page, group, front, f"front_{number}")
    shown = front[:LONGEST_FRONT]
    more = f" The {LONGEST_FRONT} fastest are shown." if len(front) > LONGEST_FRONT else ""
    return [
        say_front(group, front, with_energy=measured) + more,
        "",
        *page.show(f"front_{number}", name_costs()),
        *table(
            [
                run_column(shown),
                *setting_columns(shown),
                *number_columns(shown, metrics.list_shown(OVERVIEW)),
            ]
        ),
        "",
    ]


def _draw_front(page: Page, group: Sequence[Run], front: Sequence[Run], name: str) -> None:
    best = {run.name for run in front}
    groups = {run.name: run["model"] + mark_weights(run) for run in group}
    title = f"{group[0]['dataset']}, the front is filled"
    draw_costs(page.figure(name), group, groups, best, title=title)
