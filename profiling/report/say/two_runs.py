"""Compare two runs: a sentence first, then every metric with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from profiling import metrics
from profiling.metrics import COMPARED, PHASES, TOTAL
from profiling.report.read.keys import list_differing, show_value
from profiling.report.read.plain_runs import comparable, identify_machine, share_of_equal
from profiling.report.read.readings import read_repeats
from profiling.report.read.runs import (
    ReportError,
    Run,
    read_answers,
    without_cache,
)
from profiling.report.read.sweeps import describe_setting, round_of
from profiling.report.say.cautions import list_cautions
from profiling.report.say.differences import (
    Difference,
    ScoreDifference,
    compare_errors,
    compare_repeats,
    pair_repeats,
)
from profiling.report.say.marks import mark_run
from profiling.report.say.units import (
    digits,
    is_number,
    percent,
    quantity,
)
from profiling.statistics.intervals import Interval

Rounds = Sequence[Run]
# The raw repeats of each column, by the phase of their rows.
REPEATED = {"latency_s": TOTAL, **{f"{phase}_s": phase for phase in PHASES}}


def difference(column: str, before: Rounds, after: Rounds) -> Difference | None:
    """The difference of a column that has repeats, paired within rounds; None without pairs."""
    if column not in REPEATED:
        return None
    mine: list[float] = []
    its: list[float] = []
    for run, other in pair_rounds(before, after):
        repeats = [
            read_repeats(side.record, metric="latency_s", phase=REPEATED[column])
            for side in (run, other)
        ]
        values = pair_repeats(*repeats)
        mine += values[0]
        its += values[1]
    if not mine or min(*mine, *its) <= 0:
        return None
    return compare_repeats(mine, its)


def pair_rounds(before: Rounds, after: Rounds) -> list[tuple[Run, Run]]:
    """The rounds that both sides have; without any, the newest run of each side."""
    others = {round_of(run): run for run in after}
    pairs = [(run, others[round_of(run)]) for run in before if round_of(run) in others]
    return pairs or [(before[-1], after[-1])]


def error_difference(before: Run, after: Run) -> ScoreDifference | None:
    """The word error rates of the samples that both runs answered."""
    return compare_errors(_read_scores(before, "wer"), _read_scores(after, "wer"))


def likelihood_difference(before: Run, after: Run) -> ScoreDifference | None:
    """The likelihoods of the references, where both runs have the same tokens."""
    if before["model"] != after["model"]:
        return None
    scores = [_read_scores(run, "reference_nll") for run in (before, after)]
    return compare_errors(*scores)


def _read_scores(run: Run, field: str) -> dict[str, float]:
    lines = without_cache(run.record).answers
    return {str(line["id"]): float(line[field]) for line in lines if is_number(line.get(field))}


def write_comparison(befores: Rounds, afters: Rounds) -> list[str]:
    """Lines for a terminal: what is compared, the answer, and the table behind it."""
    before, after = befores[-1], afters[-1]
    for name, run in (("A", before), ("B", after)):
        if not run.completed:
            raise ReportError(f"{name} ({run.short}) is {run['status']}, and cannot be compared")
    return [
        *(
            f"{name}: {run.short}{mark_run(run)}  {run['model']}, {run['weights']} weights,"
            f" {describe_setting(run)}"
            for name, run in (("A", before), ("B", after))
        ),
        *_say_cautions(befores, afters),
        "",
        _say_latency(befores, afters),
        *_say_answers(before, after),
        "",
        *_table(befores, afters),
    ]


def _say_cautions(befores: Rounds, afters: Rounds) -> list[str]:
    before, after = befores[-1], afters[-1]
    cautions = []
    if len(pair_rounds(befores, afters)) == 1 and before.name != after.name:
        cautions.append(
            "One round: the difference includes any drift of the machine between the two runs;"
            " a sweep over round=1,2,3 alternates them."
        )
    if identify_machine(before.record) != identify_machine(after.record):
        cautions.append("Caution: these runs were made on different machines.")
    for name, run in (("A", before), ("B", after)):
        if run["noisy"]:
            cautions.append(f"Caution: {name} is noisy: {run['noise_reason']}.")
        cautions += [f"Caution: {name}: {caution}." for caution in list_cautions(run)]
    differing = list_differing([before.settings, after.settings])
    listed = ", ".join(
        f"{key} ({show_value(before[key])}, {show_value(after[key])})" for key in differing
    )
    return [f"They differ in {listed or 'no setting'}.", *cautions]


def _say_latency(before: Rounds, after: Rounds) -> str:
    found = difference("latency_s", before, after)
    if found is None:
        return "Latency: the runs have no repeats that can be paired."
    count = len(pair_rounds(before, after))
    rounds = f" in {count} rounds" if count > 1 else ""
    unit = metrics.find("latency_s").unit
    medians = f"{quantity(found.before, unit)} and {quantity(found.after, unit)}"
    pairs = f"({medians}, {found.pairs} pairs{rounds})"
    detectable = (
        "too few pairs to detect any difference"
        if found.detectable is None
        else f"the smallest difference that these pairs can detect is {_share(found.detectable)}"
    )
    if not found.is_significant:
        return (
            f"No significant difference in latency {pairs}: B takes {signed(found.change)}"
            f"{_bounds(found.bounds)}, {say_p(found.p_value)}; {detectable}."
        )
    word = "more" if found.change > 0 else "less"
    return (
        f"B takes {word} time than A {pairs}: {signed(found.change)}{_bounds(found.bounds)},"
        f" {say_p(found.p_value)}, faster in {percent(found.superiority)} of all pairings;"
        f" {detectable}."
    )


def _say_answers(before: Run, after: Run) -> list[str]:
    found = {
        "wer": error_difference(before, after),
        "reference_nll": likelihood_difference(before, after),
    }
    lines = [_say_scores(metric, one) for metric, one in found.items() if one is not None]
    answers = [(run.record, read_answers(run.record)) for run in (before, after)]
    equal = share_of_equal(*comparable(*answers))
    if equal is not None:
        lines.append(f"{percent(equal)} of the answers are equal.")
    return lines


def _say_scores(metric: str, found: ScoreDifference) -> str:
    verdict = "differs" if found.is_significant else "does not differ significantly"
    low, high = found.bounds.low, found.bounds.high
    return (
        f"{metrics.find(metric).words.capitalize()} {verdict}: {found.change:+.3f} [{low:+.3f},"
        f" {high:+.3f}] in the mean of {found.samples} samples, {found.better} better and"
        f" {found.worse} worse, {say_p(found.p_value)}."
    )


def _table(before: Rounds, after: Rounds) -> list[str]:
    rows: list[tuple[str, ...]] = [("metric", "A", "B", "change", "95% interval", "p")]
    others = [name for name in metrics.list_shown(COMPARED) if name not in REPEATED]
    for column in (*REPEATED, *others):
        row = _row(column, before, after)
        if row is not None:
            rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]


def _row(column: str, before: Rounds, after: Rounds) -> tuple[str, ...] | None:
    values = [before[-1].number(column), after[-1].number(column)]
    if values[0] is None or values[1] is None:
        return None
    shown = [quantity(value, metrics.find(column).unit) for value in values]
    found = difference(column, before, after)
    if found is None:
        change = signed(values[1] / values[0] - 1) if values[0] else ""
        return (column, *shown, change, "", "")
    bounds = _bounds(found.bounds).strip()
    return (column, *shown, signed(found.change), bounds, say_p(found.p_value).removeprefix("p "))


def signed(change: float) -> str:
    return f"{100 * change:+.1f}%"


def _share(change: float) -> str:
    return f"{digits(100 * change)}%"


def _bounds(bounds: Interval | None) -> str:
    return "" if bounds is None else f" [{signed(bounds.low)}, {signed(bounds.high)}]"


def say_p(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p {p_value:.3f}"


def check_comparable(runs: Sequence[Run], *, allow_other_machine: bool, allow_noisy: bool) -> None:
    """Refuse runs whose times cannot be compared."""
    for run in runs:
        if not run.completed:
            raise ReportError(f"{run.short} is {run['status']}; only completed runs can be judged")
        if run["noisy"] and not allow_noisy:
            raise ReportError(
                f"{run.short} is noisy ({run['noise_reason']}); --allow-noisy lifts this"
            )
    machines = [identify_machine(run.record) for run in runs]
    if any(machine != machines[0] for machine in machines) and not allow_other_machine:
        raise ReportError(
            f"{' and '.join(run.short for run in runs)} were made on different machines;"
            " --allow-other-machine lifts this"
        )
