"""The parts that pages are made of: each gives lines of markdown, and draws its own figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from profiling.report.draw.figures import Bar, draw_lines, draw_stacks
from profiling.report.draw.palette import COUNTED_PHASES, PHASES
from profiling.report.read.pictures import copy_picture, find_asked, match
from profiling.report.read.plain_runs import BASELINE
from profiling.report.read.readings import read_phase_repeats
from profiling.report.read.runs import Run, forget
from profiling.report.read.sweeps import SETTING_COLUMNS, Sweep, describe_setting
from profiling.report.say import escape
from profiling.report.say import sentences as words
from profiling.report.say.laws import describe_growth
from profiling.report.say.marks import explain, mark_run, mark_weights
from profiling.report.say.units import (
    NOTHING,
    digits,
    is_number,
    quantity,
    unit_of,
)
from profiling.report.write.markdown import (
    Column,
    bounds_of,
    number_columns,
    run_column,
    setting_column,
    setting_columns,
    table,
    text_column,
    value_column,
)
from profiling.statistics.growth import Growth
from profiling.statistics.medians import bound_median

EXAMPLES = 4
KEY_NAMES = {
    "img_size": "Image size",
    "prompt_len": "Prompt length",
    "batch_size": "Batch size",
    "max_new_tokens": "New tokens",
    "optimization": "Optimizations",
}
COMPUTE = (
    "flops",
    *(f"flops_{phase}" for phase in COUNTED_PHASES),
    "mfu_prefill",
    "mbu_decode",
    "peak_memory_bytes",
    "model_bytes",
    "energy_j",
    "energy_estimate_j",
)
QUALITY = (
    "wer",
    "wer_mean_clipped",
    "wer_best_reference",
    "cer",
    "reference_nll",
    "accuracy",
    "option_parse_failure_rate",
    "agreement",
    "num_question_tokens",
    "num_prompt_tokens",
    "num_visual_tokens",
    "num_new_tokens",
)
# What a picture's size changes for the better, as a curve of its own.
SEEN = "img_size"
CURVES = {"wer": "word error rate", "reference_nll": "nats per token of the reference"}
THROUGHPUT = ["ttft_s", "tpot_s", "samples_per_s", "tokens_per_s"]
OVERVIEW = (
    "latency_s",
    *THROUGHPUT,
    "energy_j",
    "peak_memory_bytes",
    "wer",
    "agreement",
    "speedup",
)


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where a page and its figures go."""

    output: Path
    stem: str

    def figure(self, name: str) -> Path:
        return self.output / "figures" / f"{self.stem}_{name}"

    def show(self, name: str, meaning: str) -> list[str]:
        """The figure in the page, and the PNG for where SVG cannot be shown."""
        path = f"figures/{self.stem}_{name}"
        return [f"![{meaning}]({path}.svg)", "", f"[as PNG]({path}.png)", ""]


def paragraph(text: str) -> list[str]:
    return [text, ""] if text else []


def section(title: str, lines: Sequence[str]) -> list[str]:
    """A titled part of the page; nothing at all where it has no lines."""
    return [f"## {title}", "", *lines, ""] if lines else []


def show_sweep(paper: Paper, sweep: Sweep) -> list[str]:
    """One sweep: its phases as a figure, its law, and its tables."""
    said = " ".join(filter(None, (words.say_law(sweep), words.say_crossing(sweep))))
    fixed = escape.markdown(describe_setting(sweep.runs[0], without=[sweep.key]))
    lines = [
        *paragraph(f"All at {fixed}."),
        *draw_phases(paper, sweep),
        *paragraph("" if sweep.key == "optimization" else said),
        *(
            line
            for column in CURVES
            if sweep.key == SEEN
            for line in draw_curve(paper, sweep, column)
        ),
        *table(_latency_columns(sweep)),
        "",
        *table(_effect_columns(sweep)),
        "",
        *table(_growth_columns(sweep)),
    ]
    return section(KEY_NAMES[sweep.key], lines)


def draw_phases(paper: Paper, sweep: Sweep) -> list[str]:
    axis = KEY_NAMES[sweep.key].lower()
    draw_stacks(
        paper.figure(sweep.key),
        [stack_phases(run, label=_value_label(sweep.key, run)) for run in sweep.runs],
        title=f"{sweep.runs[0]['model']}{mark_weights(sweep.runs[0])}: one batch by phase",
        x_name=axis + (" (px)" if sweep.key == "img_size" else ""),
        y_name="latency",
        unit="s",
    )
    return paper.show(sweep.key, f"Latency by phase against {axis}")


def draw_curve(paper: Paper, sweep: Sweep, column: str) -> list[str]:
    """How well the pictures are read along a sweep, with intervals, where it is known of all."""
    points = [(float(run[sweep.key]), run.number(column)) for run in sweep.runs]
    known = [(x, y) for x, y in points if y is not None]
    if len(known) < len(points):
        return []
    first, axis = sweep.runs[0], KEY_NAMES[sweep.key].lower()
    group = f"{first['model']}{mark_weights(first)}"
    draw_lines(
        paper.figure(f"{sweep.key}_{column}"),
        {group: known},
        title=describe_setting(first, without=[sweep.key]),
        x_name=f"{axis} (px)",
        y_name=CURVES[column],
        unit=unit_of(column),
        bounds={group: list_bounds(sweep, column)},
    )
    meaning = f"{CURVES[column].capitalize()} against {axis}, with 95% intervals over samples"
    return paper.show(f"{sweep.key}_{column}", meaning)


def list_bounds(sweep: Sweep, column: str) -> list[tuple[float, float, float]]:
    """The intervals of a column along a sweep, where both ends are known."""
    low, high = bounds_of(column)
    ends = [(float(run[sweep.key]), run.number(low), run.number(high)) for run in sweep.runs]
    return [(x, low, high) for x, low, high in ends if low is not None and high is not None]


def _value_label(key: str, run: Run) -> str:
    return ("as it is" if run[key] is None else str(run[key])) + mark_run(run)


def stack_phases(run: Run, *, label: str) -> Bar:
    """The phases of a run as one bar; a remainder below zero has no height."""
    parts = words.phase_values(run)
    return Bar(
        label=label,
        parts={phase: max(0.0, part) for phase, part in parts.items()},
        low=run.number("latency_ci_low_s"),
        high=run.number("latency_ci_high_s"),
    )


def stack_flops(run: Run, *, label: str) -> Bar:
    parts = {phase: run.number(f"flops_{phase}") or 0.0 for phase in COUNTED_PHASES}
    return Bar(label=label, parts=parts, low=None, high=None)


def draw_flops(paper: Paper, sweep: Sweep) -> list[str]:
    """Where the compute of a sweep goes, where it was counted."""
    counted = [run for run in sweep.runs if is_number(run["flops_prefill"])]
    if not counted:
        return []
    axis = KEY_NAMES[sweep.key].lower()
    draw_stacks(
        paper.figure(f"{sweep.key}_flops"),
        [stack_flops(run, label=_value_label(sweep.key, run)) for run in counted],
        title=f"{counted[0]['model']}{mark_weights(counted[0])}: compute of one batch by phase",
        x_name=axis,
        y_name="compute",
        unit="FLOP",
    )
    return paper.show(f"{sweep.key}_flops", f"Compute by phase against {axis}")


def _latency_columns(sweep: Sweep) -> list[Column]:
    runs = sweep.runs
    return [
        run_column(runs),
        setting_column(runs, sweep.key),
        *_size_columns(sweep),
        *number_columns(runs, ["latency_s"]),
        *phase_columns(runs),
    ]


def _size_columns(sweep: Sweep) -> list[Column]:
    """The tokens that stand behind a size."""
    column = {"img_size": "num_visual_tokens", "prompt_len": "num_question_tokens"}.get(sweep.key)
    return number_columns(sweep.runs, [column]) if column else []


def phase_columns(runs: Sequence[Run]) -> list[Column]:
    """The median of each phase with the interval that its raw repeats give."""
    repeats = [read_phase_repeats(forget(run.record)) for run in runs]
    return [_phase_column(runs, phase, [own.get(phase, []) for own in repeats]) for phase in PHASES]


def _phase_column(runs: Sequence[Run], phase: str, repeats: Sequence[Sequence[float]]) -> Column:
    bounds = [bound_median(values) if values else None for values in repeats]
    return value_column(
        runs,
        f"{phase}_s",
        values=[run.number(f"{phase}_s") for run in runs],
        lows=[bound.low if bound else None for bound in bounds],
        highs=[bound.high if bound else None for bound in bounds],
    )


def _effect_columns(sweep: Sweep) -> list[Column]:
    runs = sweep.runs
    effects = (*THROUGHPUT, "energy_j", "energy_estimate_j", "peak_memory_bytes", "wer", "accuracy")
    held = ("agreement", "speedup") if any(run["optimization"] != BASELINE for run in runs) else ()
    return [
        run_column(runs),
        setting_column(runs, sweep.key),
        *number_columns(runs, [*effects, *held]),
    ]


def _growth_columns(sweep: Sweep) -> list[Column]:
    """How the whole and each phase grow along a sweep, where four sizes or more tell."""
    laws: list[tuple[str, str, Growth]] = []
    for name in ("latency", *PHASES) if sweep.key != "optimization" else ():
        unit, growth = words.fit(sweep, f"{name}_s")
        if growth is not None and growth.is_determined:
            laws.append((name, unit, growth))
    powers = [describe_growth(growth, unit) for _, unit, growth in laws]
    fixed = [quantity(growth.fixed, "s") for _, _, growth in laws]
    return [
        Column(head="what grows", cells=[name for name, _, _ in laws], is_text=True),
        Column(head="fixed part", cells=fixed, is_text=False),
        Column(head="and a power [95% interval]", cells=powers, is_text=True),
    ]


def show_compute(paper: Paper, sweep: Sweep | None, runs: Sequence[Run]) -> list[str]:
    """FLOPs by phase, achieved against attainable, memory and energy."""
    shown = sweep.runs if sweep else runs
    settings = (
        [setting_column(shown, sweep.key)] if sweep else setting_columns(shown, SETTING_COLUMNS)
    )
    lines = table([run_column(shown), *settings, *number_columns(shown, COMPUTE)])
    figure = draw_flops(paper, sweep) if sweep else []
    return section("Compute, memory and energy", [*figure, *lines, *_reasons(shown, COMPUTE)])


def show_quality(runs: Sequence[Run]) -> list[str]:
    columns = [
        run_column(runs),
        *setting_columns(runs, SETTING_COLUMNS),
        *number_columns(runs, QUALITY),
        text_column(runs, "accuracy_name"),
    ]
    return section("Quality", [*table(columns), *_reasons(runs, QUALITY)])


def _reasons(runs: Sequence[Run], columns: Iterable[str]) -> list[str]:
    """Why a column has no value in any of these runs, in the runs' own words."""
    lines: list[str] = []
    for column in columns:
        if all(run.number(column) is None for run in runs):
            reasons = sorted({reason for run in runs if (reason := run.reason(column))})
            lines.extend(f"- `{column}` unavailable: {escape.markdown(r)}" for r in reasons)
    return ["", *lines] if lines else []


def show_unfinished(runs: Sequence[Run]) -> list[str]:
    """What did not complete, and why."""
    lost = [run for run in runs if not run.completed]
    errors = [escape.markdown(str(run.record.run.get("error") or NOTHING)) for run in lost]
    columns = [
        run_column(lost),
        text_column(lost, "status"),
        *setting_columns(lost, ("weights", *SETTING_COLUMNS)),
        Column(head="error", cells=errors, is_text=True),
    ]
    return section("Not completed", table(columns) if lost else [])


def show_examples(paper: Paper, run: Run) -> list[str]:
    """A few samples with what the model answered; the pictures where they can be reached."""
    asked = find_asked(run.record)
    samples = forget(run.record).answers[:EXAMPLES]
    shown = [match(asked, sample) for sample in samples]
    questions = [
        own.request or str(sample["prompt"]) for own, sample in zip(shown, samples, strict=True)
    ]
    cells = {
        "picture": [_show_picture(own.picture, paper.output) for own in shown],
        "question": [escape.markdown(question) for question in questions],
        "reference": [_first_reference(sample.get("references")) for sample in samples],
        "answer": [escape.markdown(str(sample["answer"])) for sample in samples],
        "WER": [digits(s["wer"]) if is_number(s.get("wer")) else NOTHING for s in samples],
    }
    lines = table([Column(head=h, cells=c, is_text=h != "WER") for h, c in cells.items()])
    if not lines:
        return []
    setting = escape.markdown(describe_setting(run))
    lead = f"The first samples of run `{run.short}`{mark_weights(run)} ({setting})."
    return section("Examples", [lead, "", *lines])


def _show_picture(path: Path | None, output: Path) -> str:
    return NOTHING if path is None else f"![]({copy_picture(path, output)})"


def _first_reference(references: object) -> str:
    if isinstance(references, list) and references:
        return escape.markdown(str(references[0]))
    return NOTHING


def show_all(runs: Sequence[Run]) -> list[str]:
    columns = [
        run_column(runs),
        *setting_columns(runs, ("weights", *SETTING_COLUMNS, "max_new_tokens", "device")),
        text_column(runs, "status"),
        *number_columns(runs, OVERVIEW),
    ]
    return section("All runs", table(columns))


def show_marks(runs: Sequence[Run], command: str) -> list[str]:
    """What the marks mean, how numbers are to be read, and what made the page."""
    estimates = any(
        run[column] is not None and (column == "energy_estimate_j" or run.is_estimated(column))
        for run in runs
        for column in ("energy_estimate_j", *run.worths)
        if column in run.columns
    )
    lines = [
        *(f"- {line}." for line in explain(runs, estimates=estimates)),
        "- Times are medians of one batch end to end; [low, high] is a 95% interval.",
        "- A dash: no value; never a zero in its place.",
        f"- Made by `{command}`.",
    ]
    return section("How to read this page", lines)
