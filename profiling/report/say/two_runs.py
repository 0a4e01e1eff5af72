"""Hold two runs against each other: a sentence first, then every metric with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from profiling.report.draw.palette import PHASES
from profiling.report.read.plain_runs import identify_machine, share_of_equal
from profiling.report.read.readings import read_repeats
from profiling.report.read.runs import (
    ReportError,
    Run,
    forget,
    read_answers,
)
from profiling.report.read.sweeps import ALL_SETTING_COLUMNS, describe_setting, round_of
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
    unit_of,
)
from profiling.statistics.intervals import Interval

Rounds = Sequence[Run]
REPEATED = {"latency_s": "total", **{f"{phase}_s": phase for phase in PHASES}}
SINGLE = (
    *("ttft_s", "tpot_s", "energy_j", "energy_estimate_j", "peak_memory_bytes", "flops"),
    *("wer", "cer", "reference_nll", "accuracy"),
)


def difference(column: str, before: Rounds, after: Rounds) -> Difference | None:
    """A column that has repeats, paired within rounds; None where no repeat is shared."""
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
    """The rounds that both have, which were measured in turn; else the newest of each."""
    others = {round_of(run): run for run in after}
    pairs = [(run, others[round_of(run)]) for run in before if round_of(run) in others]
    return pairs or [(before[-1], after[-1])]


def error_difference(before: Run, after: Run) -> ScoreDifference | None:
    """The word error rates of the samples that both runs answered."""
    return compare_errors(_read_scores(before, "wer"), _read_scores(after, "wer"))


def likelihood_difference(before: Run, after: Run) -> ScoreDifference | None:
    """What the references cost either run, where tokens are the same ones: nats a token."""
    if before["model"] != after["model"]:
        return None
    scores = [_read_scores(run, "reference_nll") for run in (before, after)]
    return compare_errors(*scores)


def _read_scores(run: Run, field: str) -> dict[str, float]:
    lines = forget(run.record).answers
    return {str(line["id"]): float(line[field]) for line in lines if is_number(line.get(field))}


def write_comparison(befores: Rounds, afters: Rounds) -> list[str]:
    """Lines for a terminal: what is compared, the answer, and what it rests on."""
    before, after = befores[-1], afters[-1]
    for name, run in (("A", before), ("B", after)):
        if not run.completed:
            raise ReportError(f"{name} ({run.short}) is {run['status']}, it has nothing to compare")
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
            "One round: whatever else changed between the two runs is in the difference too;"
            " a sweep over round=1,2,3 measures them in turn."
        )
    if identify_machine(before.record) != identify_machine(after.record):
        cautions.append("Caution: these runs were made on different machines.")
    for name, run in (("A", before), ("B", after)):
        if run["noisy"]:
            cautions.append(f"Caution: {name} is noisy: {run['noise_reason']}.")
    differing = [key for key in ALL_SETTING_COLUMNS if before[key] != after[key]]
    listed = ", ".join(f"{key} ({before[key]}, {after[key]})" for key in differing)
    return [f"They differ in {listed or 'nothing that was asked for'}.", *cautions]


def _say_latency(before: Rounds, after: Rounds) -> str:
    found = difference("latency_s", before, after)
    if found is None:
        return "Latency: the runs share no repeats that could be paired."
    count = len(pair_rounds(before, after))
    rounds = f" in {count} rounds" if count > 1 else ""
    medians = f"{quantity(found.before, 's')} and {quantity(found.after, 's')}"
    times = f"({medians}, {found.pairs} pairs{rounds})"
    seen = (
        "too few pairs to show any difference"
        if found.detectable is None
        else f"the smallest difference these pairs would have shown is {_share(found.detectable)}"
    )
    if not found.is_called:
        return (
            f"No difference in latency is shown {times}: B takes {signed(found.change)}"
            f"{_bounds(found.bounds)}, {say_p(found.p_value)}; {seen}."
        )
    word = "more" if found.change > 0 else "less"
    return (
        f"B takes {word} time than A {times}: {signed(found.change)}{_bounds(found.bounds)},"
        f" {say_p(found.p_value)}, quicker in {percent(found.superiority)} of all pairings; {seen}."
    )


def _say_answers(before: Run, after: Run) -> list[str]:
    found = {
        "Word error rates": error_difference(before, after),
        "Nats per token of the references": likelihood_difference(before, after),
    }
    lines = [_say_scores(what, one) for what, one in found.items() if one is not None]
    equal = share_of_equal(read_answers(before.record), read_answers(after.record))
    if equal is not None:
        lines.append(f"{percent(equal)} of the answers are equal.")
    return lines


def _say_scores(what: str, found: ScoreDifference) -> str:
    verdict = "differ" if found.is_called else "are not shown to differ"
    low, high = found.bounds.low, found.bounds.high
    return (
        f"{what} {verdict}: {found.change:+.3f} [{low:+.3f}, {high:+.3f}] in the mean"
        f" of {found.samples} samples, {found.better} better and {found.worse} worse,"
        f" {say_p(found.p_value)}."
    )


def _table(before: Rounds, after: Rounds) -> list[str]:
    rows: list[tuple[str, ...]] = [("metric", "A", "B", "change", "95% interval", "p")]
    for column in (*REPEATED, *SINGLE):
        row = _row(column, before, after)
        if row is not None:
            rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]


def _row(column: str, before: Rounds, after: Rounds) -> tuple[str, ...] | None:
    values = [before[-1].number(column), after[-1].number(column)]
    if values[0] is None or values[1] is None:
        return None
    shown = [quantity(value, unit_of(column)) for value in values]
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
    """Refuse runs whose times say nothing about each other."""
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
