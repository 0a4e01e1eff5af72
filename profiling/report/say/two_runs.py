"""Compare two runs: what they differ in, the answer, then every metric with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from profiling import metrics
from profiling.metrics import COMPARED, COUNT
from profiling.report.read.conditions import list_conditions, list_unknown
from profiling.report.read.plain_runs import (
    PAIRED,
    SEPARATE_RUNS,
    comparable,
    identify_machine,
    share_of_equal,
    started,
)
from profiling.report.read.runs import (
    ReportError,
    Run,
    find_paired,
)
from profiling.report.read.sweeps import describe_setting
from profiling.report.say.advice import say_how_to_pair
from profiling.report.say.cautions import list_cautions
from profiling.report.say.changes import TIMED, Change, Rounds, find_change
from profiling.report.say.differences import ScoreDifference, compare_errors
from profiling.report.say.marks import mark_run
from profiling.report.say.units import (
    TIMES,
    difference,
    digits,
    percent,
    quantity,
    show_ratio,
    signed,
)
from profiling.statistics.intervals import Interval
from profiling.statistics.rounds import LEAST_ROUNDS, RoundsChange

HEADS = ("metric", "A", "B", "change", "95% interval", "from")
# The scores that every answer has on its own, so that runs are compared sample by sample.
ERRORS, LIKELIHOOD = SCORED = ("wer", "reference_nll")


@dataclass(frozen=True, kw_only=True)
class TwoPoints:
    """What can be said of two points: sentences, and the rows of a table under `HEADS`."""

    sides: tuple[str, str]
    conditions: str
    cautions: tuple[str, ...]
    latency: str
    answers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def error_difference(before: Run, after: Run) -> ScoreDifference | None:
    """The word error rates of the samples that both runs answered."""
    return _compare_samples(ERRORS, before, after)


def likelihood_difference(before: Run, after: Run) -> ScoreDifference | None:
    """The likelihoods of the references, where both runs have the same tokens."""
    return _compare_samples(LIKELIHOOD, before, after) if share_tokens(before, after) else None


def share_tokens(before: Run, after: Run) -> bool:
    """Whether likelihoods of both runs are of the same tokens."""
    return bool(before["model"] == after["model"])


def have_same_samples(before: Run, after: Run) -> bool:
    """Whether answers to the same samples were judged against the same references."""
    return before["dataset"] == after["dataset"] and before.references == after.references


def _compare_samples(score: str, before: Run, after: Run) -> ScoreDifference | None:
    """By the samples that both runs have; the same name in other data is another sample."""
    if before["dataset"] != after["dataset"]:
        return None
    shared = {one for one, text in before.references.items() if after.references.get(one) == text}
    scores = (
        {one: value for one, value in run.scores(score).items() if one in shared}
        for run in (before, after)
    )
    return compare_errors(*scores)


def score_difference(column: str, before: Run, after: Run) -> ScoreDifference | None:
    """The difference of a score that answers have on their own; None for other columns."""
    compare = {ERRORS: error_difference, LIKELIHOOD: likelihood_difference}.get(column)
    return compare(before, after) if compare else None


def equal_answers(before: Run, after: Run) -> float | None:
    """The share of equal answers, where both runs answered the same samples."""
    answers = [(run.record, run.answered) for run in (before, after)]
    return share_of_equal(*comparable(*answers))


def compare_points(befores: Rounds, afters: Rounds) -> TwoPoints:
    """Compare two points by all their rounds; the run that is meant stands last on each side."""
    before, after = befores[-1], afters[-1]
    for name, run in (("A", before), ("B", after)):
        if not run.completed:
            raise ReportError(f"{name} ({run.short}) is {run['status']}, and cannot be compared")
    return TwoPoints(
        sides=(_name_side("A", before), _name_side("B", after)),
        conditions=say_conditions(before, after),
        cautions=tuple(_say_cautions(befores, afters)),
        latency=say_latency_change(befores, afters),
        answers=tuple(_say_answers(before, after)),
        rows=tuple(_list_rows(befores, afters)),
    )


def _name_side(name: str, run: Run) -> str:
    setting = f"{run['model']}, {run['weights']} weights, {describe_setting(run)}"
    return f"{name}: {run.short}{mark_run(run)}  {setting}"


def write_comparison(befores: Rounds, afters: Rounds) -> list[str]:
    """Lines for a terminal: what is compared, the answer, and the table behind it."""
    found = compare_points(befores, afters)
    return [
        *found.sides,
        found.conditions,
        *found.cautions,
        "",
        found.latency,
        *found.answers,
        "",
        *_align([HEADS, *found.rows]),
    ]


def say_conditions(before: Run, after: Run) -> str:
    """Everything in which the records of two runs differ, and what these do not say."""
    found = ", ".join(map(str, list_conditions(before, after)))
    unknown = ", ".join(list_unknown(before, after))
    said = f"They differ in {found}." if found else _say_no_condition(before, after)
    return f"{said} Not recorded, so possibly different: {unknown}." if unknown else said


def _say_no_condition(before: Run, after: Run) -> str:
    if before.name == after.name:
        return "Both are the same run."
    return (
        "They differ in nothing that is recorded (settings, profiler, code, samples, weights,"
        " package versions, machine)."
    )


def _say_cautions(befores: Rounds, afters: Rounds) -> Iterator[str]:
    before, after = befores[-1], afters[-1]
    if identify_machine(before.record) != identify_machine(after.record):
        yield "Caution: these runs were made on different machines."
    for name, run in (("A", before), ("B", after)):
        if run["noisy"]:
            yield f"Caution: {name} is noisy: {run['noise_reason']}."
        yield from (f"Caution: {name}: {caution}." for caution in list_cautions(run))
    if _are_apart(befores, afters):
        yield (
            "Caution: all rounds of one side were measured before those of the other: what changed"
            " in between is in the difference."
        )


def _are_apart(befores: Rounds, afters: Rounds) -> bool:
    """Whether the rounds of the sides do not interleave in time."""
    if min(len(befores), len(afters)) < LEAST_ROUNDS:
        return False
    times = [sorted(started(run.record)[0] for run in side) for side in (befores, afters)]
    return times[0][-1] < times[1][0] or times[1][-1] < times[0][0]


# Latency


def say_latency_change(befores: Rounds, afters: Rounds) -> str:
    """Whether B takes more or less time than A, or why the runs do not tell."""
    change = find_change("latency_s", befores, afters)
    if change is None:
        return "Latency: a run has none, so that nothing can be compared."
    if before_is_after(befores, afters):
        return "Latency: a run is not compared with itself."
    if change.source == SEPARATE_RUNS or change.relative_bounds is None:
        return _say_unknown(change, befores, afters)
    verdict = "No difference in latency is shown"
    if change.is_different:
        verdict = f"B takes {'more' if change.ratio > 1 else 'less'} time than A"
    return f"{verdict}: {_say_ratio(change)}, {_say_basis(change)}."


def before_is_after(befores: Rounds, afters: Rounds) -> bool:
    """Whether both sides are one run."""
    return [run.name for run in befores] == [run.name for run in afters]


def _say_ratio(change: Change) -> str:
    if change.bounds is None:
        return f"{digits(change.ratio)}{TIMES} the time"
    shown = show_ratio(change.ratio, change.bounds.low, change.bounds.high)
    return f"{shown} the time"


def _say_basis(change: Change) -> str:
    """What the interval rests on."""
    if change.source == PAIRED and change.paired is not None:
        noisy = ", on a noisy machine" if change.paired.noisy else ""
        return (
            f"measured in pairs ({change.paired.launches} launches, {change.paired.pairs} pairs"
            f"{noisy})"
        )
    assert change.rounds is not None
    return _say_rounds(change.rounds)


def _say_rounds(rounds: RoundsChange) -> str:
    if rounds.interval is None:
        return f"the same in each of {rounds.rounds} rounds"
    how = "matched rounds, Student's t" if rounds.are_matched else "separate rounds, Welch's t"
    return (
        f"by {rounds.rounds} {how} with {digits(rounds.freedom)} degrees of freedom; four times in"
        f" five such rounds show a difference of {digits(100 * rounds.detectable)}%"
    )


def _say_unknown(change: Change, befores: Rounds, afters: Rounds) -> str:
    unit = metrics.find("latency_s").unit
    medians = f"A took {quantity(change.before, unit)} and B {quantity(change.after, unit)}"
    if change.paired is not None:
        return (
            f"{medians} a batch. Measured in pairs, but in {change.paired.why_unbounded}:"
            f" --launches {change.paired.more_launches} and more."
        )
    return (
        f"{medians} a batch, in separate runs ({_count_rounds(befores, afters)}). How much equal"
        " runs vary is unknown, so this is no evidence of a difference. To measure it:"
        f" {say_how_to_pair(befores[-1], afters[-1])}"
    )


def _count_rounds(befores: Rounds, afters: Rounds) -> str:
    counts = [len(befores), len(afters)]
    if counts == [1, 1]:
        return "one of each"
    return f"{counts[0]} of A, {counts[1]} of B; rounds need {LEAST_ROUNDS} of each"


# Answers


def _say_answers(before: Run, after: Run) -> list[str]:
    found = {column: score_difference(column, before, after) for column in SCORED}
    lines = [say_score_change(metric, one) for metric, one in found.items() if one is not None]
    equal = equal_answers(before, after)
    if equal is not None:
        lines.append(f"{percent(equal)} of the answers are equal.")
    return lines


def say_score_change(metric: str, found: ScoreDifference) -> str:
    """Whether a score differs over the same samples; the interval of its mean decides."""
    name = metrics.find(metric).words.capitalize()
    counted = f"{found.better} better and {found.worse} worse"
    if found.is_unchanged:
        return f"{name} is the same for each of {found.samples} samples."
    if found.bounds is None:
        return (
            f"{name} changes by {difference(found.change)} in the mean of {found.samples} samples,"
            f" {counted}; {found.reason}."
        )
    verdict = "differs" if found.is_different else "does not differ significantly"
    low, high = difference(found.bounds.low), difference(found.bounds.high)
    return (
        f"{name} {verdict}: {difference(found.change)} [{low}, {high}] in the mean of"
        f" {found.samples} samples, {counted}."
    )


# The table


def _align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]


def _list_rows(before: Rounds, after: Rounds) -> Iterator[tuple[str, ...]]:
    others = [name for name in metrics.list_shown(COMPARED) if name not in TIMED]
    for column in (*TIMED, *others):
        row = _row(column, before, after)
        if row is not None:
            yield row


def _row(column: str, befores: Rounds, afters: Rounds) -> tuple[str, ...] | None:
    before, after = befores[-1], afters[-1]
    old, new = before.number(column), after.number(column)
    if old is None or new is None:
        return None
    unit = metrics.find(column).unit
    scores = score_difference(column, before, after)
    change = None if is_score(column) else find_change(column, befores, afters)
    if change is not None:
        old, new = change.before, change.after
    shown = [quantity(value, unit) for value in (old, new)]
    if scores is not None and have_same_samples(before, after):
        bounds = scores.bounds_around(new - old)
        ends = () if bounds is None else (difference(bounds.low), difference(bounds.high))
        within = f"[{', '.join(ends)}]" if ends else ""
        return (column, *shown, say_change(column, old, new), within, f"{scores.samples} samples")
    if change is None:
        return (column, *shown, say_change(column, old, new), "", "")
    within = "" if change.is_constant else say_bounds(change.relative_bounds)
    return (column, *shown, signed(change.relative), within, change.source)


def is_score(column: str) -> bool:
    """Whether a column is a share, a rate or a mean of scores, which a percentage would distort."""
    return metrics.find(column).unit == COUNT


def say_change(column: str, before: float | None, after: float | None) -> str:
    """A relative change of a cost; for a score, which may be near zero, the difference."""
    if before is None or after is None:
        return ""
    if is_score(column) or before <= 0:
        return f"{after - before:+.3g}"
    return signed(after / before - 1)


def say_bounds(bounds: Interval | None) -> str:
    """The interval of a relative change."""
    return "" if bounds is None else f"[{signed(bounds.low)}, {signed(bounds.high)}]"


def check_comparable(
    befores: Rounds, afters: Rounds, *, allow_other_machine: bool, allow_noisy: bool
) -> None:
    """Refuse runs whose times cannot be compared."""
    runs = [*befores, *afters]
    _check_paired(befores[-1], afters[-1], allow_noisy=allow_noisy)
    for run in runs:
        if not run.completed:
            error = run.record.run.get("error")
            raise ReportError(
                f"{run.short} is {run['status']}{f' ({error})' if error else ''}; only completed"
                " runs can be judged"
            )
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


def _check_paired(before: Run, after: Run, *, allow_noisy: bool) -> None:
    paired = find_paired(before, after)
    if paired is not None and paired.noisy and not allow_noisy:
        raise ReportError(
            f"the paired comparison of {before.short} and {after.short} is noisy; --allow-noisy"
            " lifts this"
        )
