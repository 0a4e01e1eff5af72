"""Sentences about runs: which phase dominates, how cost grows, which variant is faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from profiling import metrics
from profiling.metrics import PHASES
from profiling.report.read.paired import PairedTimes
from profiling.report.read.plain_runs import PLAIN_ENGINE
from profiling.report.read.readings import is_number, read_phase_repeats
from profiling.report.read.runs import Run, find_paired, values_of, without_cache
from profiling.report.read.sweeps import (
    Sweep,
    describe_setting,
    describe_value,
    name_machine,
    tokens_of,
)
from profiling.report.say import escape
from profiling.report.say.cautions import say_cautions
from profiling.report.say.laws import describe_growth
from profiling.report.say.marks import mark_pairs, mark_run, mark_speed, mark_weights
from profiling.report.say.two_runs import error_difference
from profiling.report.say.units import (
    count,
    digits,
    interval,
    percent,
    quantity,
    say_ratio,
    times,
)
from profiling.report.say.verdicts import Verdicts, judge_variants
from profiling.statistics.growth import Growth, find_crossing, fit_growth
from profiling.statistics.intervals import Interval
from profiling.statistics.ratios import Ratio
from profiling.statistics.summaries import LEAST_REPEATS, bound_level

# Of the increase: where other phases lose more, a share of it means nothing.
_MOST_LOST = 0.05
# Two intervals of 84% that are apart show a difference as a test at 5% does.
_LEAST_CONFIDENCE = 0.84
_UNKNOWN = "how much equal runs vary is unknown. `paired=true` measures in pairs."
_SEPARATE = f"These are separate runs: {_UNKNOWN}"


def say_time(run: Run) -> str:
    """A run's latency with interval and marks."""
    latency = metrics.find("latency_s")
    return interval(run[latency.name], run.interval(latency.name), latency.unit) + mark_run(run)


def say_latency(run: Run) -> str:
    """What one batch takes, and in which phases."""
    setting = escape.markdown(describe_setting(run))
    repeats = run.number("num_repeats")
    measured = f" (median of {repeats:.0f} repeats)" if repeats else ""
    if run.rounds:
        measured = f" (median of {len(run.rounds)} rounds)"
    shares = phase_shares(run)
    # Where more time is in phases that are not known, the longest of the others is no answer.
    if not shares or 1 - sum(shares.values()) > max(shares.values()):
        return f"{setting}: one batch takes {say_time(run)}{measured}."
    first, *rest = sorted(shares, key=lambda phase: -shares[phase])
    others = ", ".join(f"{phase} {percent(shares[phase])}" for phase in rest[:3])
    return (
        f"**{first.capitalize()} takes {percent(shares[first])} of the time**"
        f"{f' ({others})' if others else ''}: one batch takes {say_time(run)}{measured}, at"
        f" {setting}."
    )


def phase_shares(run: Run) -> dict[str, float]:
    """Each phase's share of the latency, where the run has both."""
    latency = run.number("latency_s")
    if not latency:
        return {}
    parts = phase_values(run)
    return {phase: value / latency for phase, value in parts.items()}


def phase_values(run: Run) -> dict[str, float]:
    values = {phase: run.number(f"{phase}_s") for phase in PHASES}
    return {phase: value for phase, value in values.items() if value is not None}


def say_growth(sweep: Sweep) -> str:
    """The ratio between the largest and the smallest run of a sweep, and the phase behind it.

    Only where the intervals of both are apart; a paired comparison of them has an interval itself.
    """
    sized = [run for run in sweep.runs if run[sweep.key] is not None]
    if len(sized) < 2:
        return ""
    small, large = sized[0], sized[-1]
    sizes = [describe_value(sweep.key, run[sweep.key]) for run in (small, large)]
    paired = find_paired(large, small)
    how = f"{say_time(small)} to {say_time(large)}"
    lead = f"From {sizes[0]} to {sizes[1]}"
    if paired is None and not all(map(_is_bounded, (small, large))):
        least = percent(_LEAST_CONFIDENCE)
        return (
            f"{lead} one batch takes {how}; intervals of at least {least} of both would be needed"
            " to tell a change."
        )
    if not _are_apart(small, large, paired):
        return f"{lead} no change of the latency is shown ({how})."
    ratio = times(large["latency_s"] / small["latency_s"])
    if paired is not None:
        ratio = _show_times(paired)
    how += "; separate runs" if paired is None else "; measured in pairs"
    return f"{lead} one batch takes {ratio} the time ({how}){_say_main_cause(small, large)}."


def _are_apart(small: Run, large: Run, paired: PairedTimes | None) -> bool:
    """Whether a difference of latency is shown: by the paired interval, else by those of both."""
    if paired is not None:
        return excludes_one(paired.whole)
    return are_separate(*(run.interval("latency_s") for run in (small, large)))


def has_course(sweep: Sweep, column: str) -> bool:
    """Whether a column along a sweep is more than two points that may differ by noise alone."""
    if len(sweep.runs) > 2 or metrics.find(column).is_exact:
        return True
    small, large = sweep.runs[0], sweep.runs[-1]
    if column == "latency_s":
        return _are_apart(small, large, find_paired(large, small))
    return are_separate(small.interval(column), large.interval(column))


def _is_bounded(run: Run) -> bool:
    bounds = run.interval("latency_s")
    return bounds is not None and bounds.confidence >= _LEAST_CONFIDENCE


def are_separate(one: Interval | None, other: Interval | None) -> bool:
    """Whether two intervals reach enough confidence and have nothing in common."""
    if one is None or other is None:
        return False
    if min(one.confidence, other.confidence) < _LEAST_CONFIDENCE:
        return False
    return one.high < other.low or other.high < one.low


def excludes_one(ratio: Ratio) -> bool:
    return ratio.low is not None and ratio.high is not None and not ratio.low <= 1 <= ratio.high


def _say_main_cause(small: Run, large: Run) -> str:
    """The phase that grows most, where its growth is shown and the shares add up."""
    added = large["latency_s"] - small["latency_s"]
    before, after = phase_values(small), phase_values(large)
    if added <= 0 or not before:
        return ""
    gains = {phase: after.get(phase, 0.0) - before[phase] for phase in before}
    main = max(gains, key=lambda phase: gains[phase])
    lost = -sum(min(0.0, gain) for gain in gains.values())
    unknown = added - sum(gains.values())
    if max(lost, unknown - gains[main]) > _MOST_LOST * added or not _grows(main, small, large):
        return ""
    share = gains[main] / added
    return f"; {main} is {'all' if share > 0.995 else percent(share)} of the increase"


def _grows(phase: str, small: Run, large: Run) -> bool:
    """Whether all repeats of a phase, or their intervals, are longer in one run than in another."""
    repeats = [
        read_phase_repeats(without_cache(run.record)).get(phase, []) for run in (small, large)
    ]
    if min(map(len, repeats)) < LEAST_REPEATS:
        return False
    before, after = (bound_level(values) for values in repeats)
    return min(repeats[1]) > max(repeats[0]) or (
        are_separate(before, after) and median(repeats[1]) > median(repeats[0])
    )


def fit(sweep: Sweep, column: str) -> tuple[str, Growth | None]:
    """The growth of a column along a sweep, and the name of what it grows with."""
    unit, sizes = tokens_of(sweep)
    pairs = [
        (size, cost)
        for size, run in zip(sizes, sweep.runs, strict=True)
        if size is not None and (cost := run.number(column)) is not None
    ]
    return unit, fit_growth([size for size, _ in pairs], [cost for _, cost in pairs])


def say_law(sweep: Sweep) -> str:
    """The power law of the latency along a sweep, where the points determine one."""
    latency = metrics.find("latency_s")
    unit, growth = fit(sweep, latency.name)
    if growth is None:
        return ""
    if not growth.is_determined:
        return f"{describe_growth(growth, unit).capitalize()}."
    fixed = quantity(growth.fixed, latency.unit)
    return f"{latency.title.capitalize()} ≈ {fixed} + a power: {describe_growth(growth, unit)}."


def say_crossing(sweep: Sweep) -> str:
    """Where prefill starts to cost more than vision and decode together, by all sizes."""
    unit, sizes = tokens_of(sweep)
    known = [
        (size, *gap)
        for size, run in zip(sizes, sweep.runs, strict=True)
        if size is not None and (gap := _find_gap(run)) is not None
    ]
    if len(known) < max(2, len(sweep.runs)):
        return ""
    known.sort()
    signs = [sign for _, _, sign in known]
    if all(sign > 0 for sign in signs):
        return "Prefill exceeds vision and decode together at every measured size."
    below = signs.count(-1)
    if signs != [-1] * below + [1] * (len(signs) - below) or below == len(signs):
        return ""
    crossing = find_crossing([size for size, _, _ in known], [gap for _, gap, _ in known])
    if crossing is None:
        return ""
    return f"Prefill exceeds vision and decode together above about {digits(crossing)} {unit}."


def _find_gap(run: Run) -> tuple[float, int] | None:
    """Prefill less vision and decode, and its sign; 0 where the repeats do not tell the sign."""
    repeats = read_phase_repeats(without_cache(run.record))
    parts = [repeats.get(phase, []) for phase in ("prefill", "vision", "decode")]
    if not parts[0] or len({len(part) for part in parts}) > 1:
        return None
    gaps = [prefill - vision - decode for prefill, vision, decode in zip(*parts, strict=True)]
    bounds = bound_level(gaps) or Interval(low=min(gaps), high=max(gaps), confidence=0.0)
    return median(gaps), 1 if bounds.low > 0 else -1 if bounds.high < 0 else 0


def say_optimizations(sweep: Sweep) -> str:
    """The fastest variant against the plain model, and the other variants, by paired intervals."""
    verdicts = judge_variants(sweep.runs)
    if verdicts is None:
        return ""
    groups = {
        "Slower than the baseline": verdicts.slower,
        "No difference from the baseline is shown for": verdicts.unclear,
    }
    said = [
        _say_fastest(verdicts) if len(verdicts.unpaired) < len(verdicts.speeds) else "",
        *(f"{what}: {_list_speeds(verdicts, runs)}." for what, runs in groups.items() if runs),
        _say_unpaired(verdicts),
        _say_control(verdicts),
    ]
    return " ".join(filter(None, said))


def say_engines(sweep: Sweep) -> str:
    """How the other engines compare with the plain one in time and in answers."""
    plain = next((run for run in sweep.runs if run[sweep.key] == PLAIN_ENGINE), None)
    if plain is None:
        return ""
    others = [run for run in sweep.runs if run is not plain]
    said = "; ".join(_say_engine(run, plain, sweep.key) for run in others)
    caution = _say_separate([find_paired(run, plain) for run in others])
    lead = f"With {PLAIN_ENGINE} one batch takes {say_time(plain)}; {said}."
    return f"{lead} {caution}" if caution else lead


def _say_separate(pairs: Sequence[PairedTimes | None]) -> str:
    """That some or all runs were not measured in pairs; nothing where all were."""
    if all(pairs):
        return ""
    return f"Some of these are separate runs: {_UNKNOWN}" if any(pairs) else _SEPARATE


def _say_engine(run: Run, plain: Run, key: str) -> str:
    agreement, paired = run["agreement"], find_paired(run, plain)
    same = f", {percent(agreement)} of the answers equal" if is_number(agreement) else ""
    how = ", in a separate run" if paired is None else f", {_show_times(paired)} the time"
    if paired is not None and paired.whole.low is None:
        how += f" ({paired.why_unbounded})"
    return f"with {escape.markdown(run[key])} {say_time(run)}{how}{same}"


def _say_fastest(verdicts: Verdicts) -> str:
    """The variant that is faster than all others, or those that are faster than the baseline."""
    if verdicts.fastest is not None:
        among = _say_among(verdicts)
        return f"Fastest{among} is {_say_speed(verdicts, verdicts.fastest)}."
    if verdicts.faster:
        listed = "; ".join(_say_speed(verdicts, run) for run in verdicts.faster)
        if len(verdicts.faster) == 1:
            return f"Only one is shown to be faster than the baseline: {listed}."
        return f"Several are faster than the baseline, none of them shown to be fastest: {listed}."
    if verdicts.slower or verdicts.unclear:
        return "No optimization is shown to be faster than the baseline."
    return ""


def _say_among(verdicts: Verdicts) -> str:
    """Among which variants one is the fastest, where some have no interval."""
    if any(_why_unbounded(verdicts.plain, run) for run in verdicts.unpaired):
        return " of those with a paired interval"
    return " of those measured in pairs" if verdicts.unpaired else ""


def _list_speeds(verdicts: Verdicts, runs: Sequence[Run]) -> str:
    return ", ".join(
        f"{escape.markdown(run['optimization'])} {_show_speed(verdicts, run)}" for run in runs
    )


def _say_unpaired(verdicts: Verdicts) -> str:
    """The variants that nothing can be said of, and what measures them."""
    whys = {run.name: _why_unbounded(verdicts.plain, run) for run in verdicts.unpaired}
    separate = [run for run in verdicts.unpaired if not whys[run.name]]
    unbounded = [run for run in verdicts.unpaired if whys[run.name]]
    said = []
    if whys and len(whys) == len(verdicts.speeds) - (verdicts.repetition is not None):
        said.append("Which variant is fastest cannot be said.")
    if said and not unbounded:
        said.append(_SEPARATE)
    elif separate:
        names = ", ".join(escape.markdown(run["optimization"]) for run in separate)
        said.append(f"Not measured in pairs, so that nothing can be said of them: {names}.")
    if unbounded:
        listed = ", ".join(
            f"{escape.markdown(run['optimization'])} {_show_speed(verdicts, run)}"
            f" ({whys[run.name]})"
            for run in unbounded
        )
        said.append(f"Measured in pairs, but without an interval: {listed}.")
    return " ".join(said)


def _why_unbounded(plain: Run, run: Run) -> str:
    """Why a paired comparison of two runs has no interval; nothing where there is none of them."""
    paired = find_paired(plain, run)
    return "" if paired is None else paired.why_unbounded


def _say_control(verdicts: Verdicts) -> str:
    """What the harness measures between equal models."""
    repetition = verdicts.repetition
    if repetition is None:
        return ""
    speed, name = verdicts.speeds[repetition.name], escape.markdown(repetition["optimization"])
    lead = (
        f"Here {name} is the same model as the baseline and measured"
        f" {_show_speed(verdicts, repetition)}"
    )
    if speed.low is None:
        why = _why_unbounded(verdicts.plain, repetition)
        how = f"in {why}" if why else "in a separate run: this is what the machine alone changes"
        return f"{lead} {how}."
    if not excludes_one(speed):
        return f"{lead}: the interval holds 1, as it has to."
    return f"{lead}: the interval should hold 1, so smaller differences are not believed."


def _show_speed(verdicts: Verdicts, run: Run) -> str:
    mark = mark_speed(find_paired(verdicts.plain, run), run, verdicts.plain)
    return say_ratio(verdicts.speeds[run.name]) + mark


def _show_times(paired: PairedTimes) -> str:
    """A paired ratio, marked where the machine was busy: the marks of the runs do not tell that."""
    return say_ratio(paired.whole) + mark_pairs(paired)


def _say_speed(verdicts: Verdicts, run: Run) -> str:
    agreement = run["agreement"]
    same = f", {percent(agreement)} of the answers equal" if is_number(agreement) else ""
    name = escape.markdown(run["optimization"])
    speed = _show_speed(verdicts, run)
    return f"{name}: {speed} the baseline's speed{mark_weights(run)}{same}"


def say_scope(runs: Sequence[Run]) -> list[str]:
    """How many runs there are, and what they were measured on."""
    return [say_outcomes(runs), *say_cautions(runs), *say_origin(runs)]


def say_outcomes(runs: Sequence[Run]) -> str:
    """The number of runs, and how they ended."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[run["status"]] = counts.get(run["status"], 0) + 1
    noisy = sum(bool(run["noisy"]) for run in runs)
    return _count_outcomes(len(runs), counts) + (f" {noisy} noisy." if noisy else "")


def _count_outcomes(total: int, counts: Mapping[str, int]) -> str:
    if list(counts) == ["completed"]:
        return f"{total} runs, all completed." if total > 1 else "1 run, completed."
    parts = ", ".join(
        f"{number} {status.replace('_', ' ')}" for status, number in sorted(counts.items())
    )
    return f"{count(total, 'run')}: {parts}."


def say_origin(runs: Sequence[Run]) -> list[str]:
    """The machine, the package versions and the fixed settings of runs."""
    machines = sorted({name_machine(run) for run in runs})
    said = [f"On {'; '.join(map(escape.markdown, machines))}."]
    for package in ("torch", "transformers"):
        known = [(run.record.run.get("versions") or {}).get(package) for run in runs]
        versions = sorted({str(version) for version in known if version is not None})
        if versions:
            said.append(f"{package} {', '.join(map(escape.markdown, versions))}.")
    for column in ("weights", "dataset", "device", "dtype", "max_new_tokens", "num_samples"):
        found = [str(value) for value in values_of(runs, column) if value is not None]
        if found:
            said.append(f"{metrics.find(column).title}: {escape.markdown(', '.join(found))}.")
    return said


def say_ranking(runs: Sequence[Run]) -> str:
    """Models compared: the fastest, where paired comparisons show it, and the best answers."""
    ranked = sorted(runs, key=lambda run: run["latency_s"])
    if len(ranked) < 2:
        return ""
    return " ".join(filter(None, (_say_order(ranked), say_best_answers(runs))))


def _say_order(ranked: Sequence[Run]) -> str:
    fast, *others = ranked
    paired = [find_paired(run, fast) for run in others]
    name = escape.markdown(fast["model"])
    if all(one is not None and (one.whole.low or 0.0) > 1 for one in paired):
        listed = ", ".join(
            f"{escape.markdown(run['model'])} takes {_show_times(one)} the time"
            for run, one in zip(others, paired, strict=True)
            if one is not None
        )
        return f"**{name} is the fastest** at {say_time(fast)} per batch: {listed}."
    listed = ", ".join(f"{escape.markdown(run['model'])} {say_time(run)}" for run in ranked)
    why = _say_separate(paired) or "Paired comparisons do not show it."
    return f"One batch takes: {listed}. Which model is fastest cannot be said. {why}"


def say_best_answers(runs: Sequence[Run]) -> str:
    """The model with fewer errors than every other one on the same samples."""
    scored = sorted(
        (run for run in runs if is_number(run["wer"])), key=lambda run: (run["wer"], run.name)
    )
    if len(scored) < 2:
        return ""
    best, *others = scored
    score = metrics.find("wer").words
    if all(_is_better(best, other) for other in others):
        marked = f"{digits(best['wer'])}{mark_run(best)}"
        return f"{escape.markdown(best['model'])} has the best answers, with a {score} of {marked}."
    listed = ", ".join(
        f"{escape.markdown(run['model'])} {digits(run['wer'])}{mark_run(run)}" for run in scored
    )
    return f"{score.capitalize()}: {listed}; which answers best is not shown by these samples."


def _is_better(run: Run, other: Run) -> bool:
    found = error_difference(run, other)
    return found is not None and found.is_different and found.change > 0
