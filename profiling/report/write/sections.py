"""The sections of pages: each gives lines of markdown, and draws its own figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from profiling import metrics
from profiling.metrics import ANSWERS, COMPUTE, CURVES, EFFECTS, OVERVIEW, PHASES
from profiling.report.draw.figures import draw_lines
from profiling.report.draw.record_figures import (
    draw_compute,
    draw_phases,
    draw_places,
    stack_flops,
    stack_phases,
)
from profiling.report.read.pictures import copy_picture, find_samples, match
from profiling.report.read.plain_runs import BASELINE, PLAIN_ENGINE
from profiling.report.read.readings import is_number
from profiling.report.read.runs import Run, without_cache
from profiling.report.read.sweeps import (
    TOKENS_OF,
    Sweep,
    describe_setting,
    name_key,
)
from profiling.report.say import escape, sentences
from profiling.report.say.laws import describe_growth
from profiling.report.say.limits import find_places
from profiling.report.say.marks import explain, explain_rounds, mark_run, mark_weights
from profiling.report.say.units import (
    NOTHING,
    count,
    digits,
    quantity,
)
from profiling.report.write.columns import (
    Column,
    number_columns,
    phase_columns,
    place_columns,
    quantity_column,
)
from profiling.report.write.markdown import (
    fold,
    run_column,
    setting_column,
    setting_columns,
    table,
    text_column,
)
from profiling.statistics.growth import Growth

EXAMPLES = 4
# The size on which the quality of answers depends.
_SEEN = "img_size"


@dataclass(frozen=True, kw_only=True)
class Page:
    """The folder and the file stem of a page, and the paths of its figures."""

    output: Path
    stem: str

    def figure(self, name: str) -> Path:
        return self.output / "figures" / f"{self.stem}_{name}"

    def show(self, name: str, meaning: str) -> list[str]:
        """The figure as SVG in the page, and a link to the PNG."""
        path = f"figures/{self.stem}_{name}"
        return [f"![{meaning}]({path}.svg)", "", f"[as PNG]({path}.png)", ""]


def paragraph(text: str) -> list[str]:
    return [text, ""] if text else []


def section(title: str, lines: Sequence[str]) -> list[str]:
    """A titled part of a page; nothing where it has no lines."""
    return [f"## {title}", "", *lines, ""] if lines else []


def title_of(key: str) -> str:
    """The title of the section about a configuration key."""
    return escape.markdown(name_key(key).capitalize())


def axis_of(key: str) -> str:
    """The name of an axis along the values of a configuration key."""
    unit = metrics.find(key).unit if key in metrics.SETTING_COLUMNS else metrics.COUNT
    return name_key(key) if unit == metrics.COUNT else f"{name_key(key)} ({unit})"


def show_sweep(page: Page, sweep: Sweep) -> list[str]:
    """One sweep: its phases as a figure, its law, and its tables."""
    said = [sentences.say_law(sweep), sentences.say_crossing(sweep)] if sweep.is_growing else []
    fixed = escape.markdown(describe_setting(sweep.runs[0], without=[sweep.key]))
    # A size that the processor chose has no place on an axis of sizes.
    placed = sweep.key == _SEEN and all(run[sweep.key] is not None for run in sweep.runs)
    curves = metrics.list_shown(CURVES) if placed else []
    lines = [
        *paragraph(f"All at {fixed}."),
        *_draw_phases(page, sweep),
        *paragraph(" ".join(filter(None, said))),
        *(line for metric in curves for line in _draw_curve(page, sweep, metric)),
        *table(_latency_columns(sweep)),
        "",
        *fold("Rates, costs and answers", table(_effect_columns(sweep))),
        *fold("How each phase grows", table(_growth_columns(sweep))),
    ]
    return section(title_of(sweep.key), lines)


def _draw_phases(page: Page, sweep: Sweep) -> list[str]:
    if sweep.is_growing and not sentences.has_course(sweep, "latency_s"):
        return []
    bars = [stack_phases(run, label=_value_label(sweep.key, run)) for run in sweep.runs]
    draw_phases(page.figure(sweep.key), bars, sweep.runs[0], x_name=axis_of(sweep.key))
    latency = metrics.find("latency_s").title.capitalize()
    return page.show(sweep.key, f"{latency} by phase against {name_key(sweep.key)}")


def _draw_curve(page: Page, sweep: Sweep, metric: str) -> list[str]:
    """The quality of the answers along a sweep, with intervals, where every run has it."""
    points = [(float(run[sweep.key]), run.number(metric)) for run in sweep.runs]
    known = [(x, y) for x, y in points if y is not None]
    if len(known) < len(points) or not sentences.has_course(sweep, metric):
        return []
    first, declared = sweep.runs[0], metrics.find(metric)
    group, name = f"{first['model']}{mark_weights(first)}", f"{sweep.key}_{metric}"
    bounds = list_bounds(sweep, metric)
    draw_lines(
        page.figure(name),
        {group: known},
        title=name_course(metric, sweep),
        x_name=axis_of(sweep.key),
        y_name=declared.words,
        unit=declared.unit,
        bounds={group: bounds},
    )
    against = f"{declared.words.capitalize()} against {name_key(sweep.key)}"
    return page.show(name, against + (", with 95% intervals over samples" if bounds else ""))


def name_course(metric: str, sweep: Sweep) -> str:
    """The title of a figure: the quantity and what it is against, then what is fixed."""
    words = metrics.find(metric).words
    quantity_first = f"{words[:1].upper()}{words[1:]} against {name_key(sweep.key)}"
    return f"{quantity_first}\n{describe_setting(sweep.runs[0], without=[sweep.key])}"


def list_bounds(sweep: Sweep, metric: str) -> list[tuple[float, float, float]]:
    """The intervals of a metric along a sweep, where both ends are known."""
    ends = [(float(run[sweep.key]), run.interval(metric)) for run in sweep.runs]
    return [(x, bounds.low, bounds.high) for x, bounds in ends if bounds is not None]


def _value_label(key: str, run: Run) -> str:
    return ("as it is" if run[key] is None else str(run[key])) + mark_run(run)


def _draw_compute(page: Page, sweep: Sweep) -> list[str]:
    """The compute of a sweep by phase, where it was counted."""
    counted = [run for run in sweep.runs if is_number(run["flops_prefill"])]
    if not counted:
        return []
    bars = [stack_flops(run, label=_value_label(sweep.key, run)) for run in counted]
    name = f"{sweep.key}_flops"
    draw_compute(page.figure(name), bars, counted[0], x_name=axis_of(sweep.key))
    compute = metrics.find("flops").words.capitalize()
    return page.show(name, f"{compute} by phase against {name_key(sweep.key)}")


def _latency_columns(sweep: Sweep) -> list[Column]:
    runs = sweep.runs
    tokens = [TOKENS_OF[sweep.key]] if sweep.key in TOKENS_OF else []
    return [
        run_column(runs),
        setting_column(runs, sweep.key),
        *number_columns(runs, [*tokens, "latency_s"]),
        *phase_columns(runs),
    ]


def _effect_columns(sweep: Sweep) -> list[Column]:
    runs = sweep.runs
    are_plain = all(_is_plain(run) for run in runs)
    # Plain models are their own baselines.
    compared = metrics.AT_READING if are_plain else ()
    effects = [name for name in metrics.list_shown(EFFECTS) if name not in compared]
    return [run_column(runs), setting_column(runs, sweep.key), *number_columns(runs, effects)]


def _is_plain(run: Run) -> bool:
    return run["optimization"] == BASELINE and run["engine"] in (None, PLAIN_ENGINE)


def _growth_columns(sweep: Sweep) -> list[Column]:
    """How latency and phases grow along a sweep, where at least four sizes determine it."""
    laws: list[tuple[metrics.Metric, str, Growth]] = []
    for name in ("latency_s", *(f"{phase}_s" for phase in PHASES)) if sweep.is_growing else ():
        unit, growth = sentences.fit(sweep, name)
        if growth is not None and growth.is_determined:
            laws.append((metrics.find(name), unit, growth))
    powers = [describe_growth(growth, unit) for _, unit, growth in laws]
    fixed = [growth.fixed for _, _, growth in laws]
    return [
        Column(head="what grows", cells=[metric.title for metric, _, _ in laws], is_text=True),
        quantity_column("fixed part", fixed, metrics.find("latency_s").unit),
        Column(head="and a power [95% interval]", cells=powers, is_text=True),
    ]


def show_compute(page: Page, sweep: Sweep | None, runs: Sequence[Run]) -> list[str]:
    """FLOPs by phase, utilization, memory and energy."""
    shown = sweep.runs if sweep else runs
    settings = [setting_column(shown, sweep.key)] if sweep else setting_columns(shown)
    names = metrics.list_shown(COMPUTE)
    lines = table([run_column(shown), *settings, *number_columns(shown, names)])
    figure = _draw_compute(page, sweep) if sweep else []
    return section("Compute, memory and energy", [*figure, *lines, *_reasons(shown, names)])


def show_roofline(page: Page, run: Run) -> list[str]:
    """The figure and the table of one run; nothing where its peaks are not known."""
    places = find_places(run)
    if not places:
        return []
    draw_places(page.figure("roofline"), places, run)
    peaks = (
        quantity(places[0].peak_flops_per_s, metrics.find("flops").unit),
        quantity(places[0].peak_bytes_per_s, metrics.find("model_bytes").unit),
    )
    lead = f"Run `{run.short}`{mark_run(run)}. The peaks are {peaks[0]}/s and {peaks[1]}/s."
    lead += " Work and bytes are those of the first full batch, times are medians of all batches."
    figure = page.show("roofline", "Achieved FLOP/s against arithmetic intensity, by phase")
    lines = [lead, "", *figure, *table(place_columns(places))]
    return section("Achieved against attainable", lines)


def show_quality(runs: Sequence[Run]) -> list[str]:
    names = _list_answer_metrics(runs)
    columns = [
        run_column(runs),
        *setting_columns(runs),
        *number_columns(runs, names),
        text_column(runs, "accuracy_name"),
    ]
    counted = f"Every metric of the answers, {count(len(runs), 'run')}"
    return section("Quality", [*fold(counted, table(columns)), *_reasons(runs, names)])


def _list_answer_metrics(runs: Sequence[Run]) -> list[str]:
    """Those of every project, and those that a text metric declares in its own file."""
    known = metrics.list_shown(ANSWERS)
    further = sorted({name for run in runs for name in run.others} - set(known))
    own = [
        name
        for name in further
        if metrics.is_declared(name) and ANSWERS in metrics.find(name).tables
    ]
    return [*known, *own]


def _reasons(runs: Sequence[Run], names: Iterable[str]) -> list[str]:
    """Why a metric has no value in any of these runs, as the records say it."""
    lines: list[str] = []
    for name in names:
        if all(run.number(name) is None for run in runs):
            reasons = sorted({reason for run in runs if (reason := run.reason(name))})
            # On a busy machine the reason of each run has figures of its own.
            further = f" (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else ""
            lines.extend(
                f"- `{name}` unavailable: {escape.markdown(first)}{further}"
                for first in reasons[:1]
            )
    return ["", *lines] if lines else []


def show_unfinished(runs: Sequence[Run]) -> list[str]:
    """The runs that did not complete, and why."""
    unfinished = [run for run in runs if not run.completed]
    columns = [
        run_column(unfinished),
        text_column(unfinished, "status"),
        *setting_columns(unfinished),
        error_column(unfinished),
    ]
    return section("Not completed", table(columns) if unfinished else [])


def error_column(runs: Sequence[Run]) -> Column:
    errors = [escape.markdown(str(run.record.run.get("error") or NOTHING)) for run in runs]
    return Column(head="error", cells=errors, is_text=True)


def show_examples(page: Page, run: Run) -> list[str]:
    """A few samples with the model's answers, and the pictures where they are found."""
    found = find_samples(run.record, follow=run.follows_folder)
    lines = without_cache(run.record).answers[:EXAMPLES]
    shown = [match(found, line) for line in lines]
    questions = [own.request or str(line["prompt"]) for own, line in zip(shown, lines, strict=True)]
    score = metrics.find("wer").title
    cells = {
        "picture": [_show_picture(own.picture, page.output) for own in shown],
        "question": [escape.markdown(question) for question in questions],
        "reference": [_first_reference(line.get("references")) for line in lines],
        "answer": [_show_answer(line.get("answer")) for line in lines],
        score: [digits(line["wer"]) if is_number(line.get("wer")) else NOTHING for line in lines],
    }
    rows = table([Column(head=h, cells=c, is_text=h != score) for h, c in cells.items()])
    if not rows:
        return []
    setting = escape.markdown(describe_setting(run))
    lead = f"The first samples of run `{run.short}`{mark_weights(run)} ({setting})."
    return section("Examples", [lead, "", *rows])


def _show_picture(path: Path | None, output: Path) -> str:
    return NOTHING if path is None else f"![]({copy_picture(path, output)})"


def _show_answer(answer: object) -> str:
    return NOTHING if answer is None else escape.markdown(str(answer))


def _first_reference(references: object) -> str:
    if isinstance(references, list) and references:
        return escape.markdown(str(references[0]))
    return NOTHING


def show_all(runs: Sequence[Run]) -> list[str]:
    columns = [
        run_column(runs),
        *setting_columns(runs),
        text_column(runs, "status"),
        *number_columns(runs, metrics.list_shown(OVERVIEW)),
    ]
    return section("All runs", fold(count(len(runs), "run"), table(columns)))


def show_marks(runs: Sequence[Run], command: str) -> list[str]:
    """The meaning of the marks, how to read numbers, and the command that made the page."""
    lines = [
        *(f"- {line}." for line in explain(runs, estimates=_has_estimates(runs))),
        *(f"- {line}." for line in explain_rounds(runs)),
        "- Times are medians of one batch end to end; [low, high] is a 95% interval, or of the"
        " confidence that stands behind it. It covers this run, not the variation from run to run.",
        "- A dash: no value; it is never zero.",
        f"- Made by {escape.code(command)}.",
    ]
    return section("How to read this page", lines)


def _has_estimates(runs: Sequence[Run]) -> bool:
    return any(
        run[name] is not None and (metrics.find(name).is_estimate or run.is_estimated(name))
        for run in runs
        for name in metrics.SUMMARY_COLUMNS
    )
