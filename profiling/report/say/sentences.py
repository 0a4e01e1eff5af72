"""Sentences about runs: which phase dominates, how cost grows, which variant is faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from profiling import metrics
from profiling.metrics import PHASES
from profiling.report.read.plain_runs import PLAIN_ENGINE, identify_machine
from profiling.report.read.runs import Run, values_of
from profiling.report.read.sweeps import Sweep, describe_setting, describe_value, tokens_of
from profiling.report.say import escape
from profiling.report.say.cautions import say_cautions
from profiling.report.say.laws import describe_growth
from profiling.report.say.marks import mark_run
from profiling.report.say.units import (
    digits,
    interval,
    is_number,
    percent,
    quantity,
    say_ratio,
    times,
)
from profiling.report.say.verdicts import Verdicts, judge_variants
from profiling.statistics.growth import Growth, find_crossing, fit_growth


def say_time(run: Run) -> str:
    """A run's latency with interval and marks."""
    latency = metrics.find("latency_s")
    return interval(run[latency.name], *run.bounds(latency.name), latency.unit) + mark_run(run)


def say_latency(run: Run) -> str:
    """What one batch takes, and in which phases."""
    setting = escape.markdown(describe_setting(run))
    repeats = run.number("num_repeats")
    measured = f" (median of {repeats:.0f} repeats)" if repeats else ""
    shares = phase_shares(run)
    if not shares:
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
    """The ratio between the largest and the smallest run of a sweep, and the phase behind it."""
    sized = [run for run in sweep.runs if run[sweep.key] is not None]
    if len(sized) < 2:
        return ""
    small, large = sized[0], sized[-1]
    sizes = [describe_value(sweep.key, run[sweep.key]) for run in (small, large)]
    ratio = large["latency_s"] / small["latency_s"]
    return (
        f"From {sizes[0]} to {sizes[1]} one batch takes {times(ratio)} the time"
        f" ({say_time(small)} to {say_time(large)}){_say_main_cause(small, large)}."
    )


def _say_main_cause(small: Run, large: Run) -> str:
    added = large["latency_s"] - small["latency_s"]
    before, after = phase_values(small), phase_values(large)
    if added <= 0.05 * small["latency_s"] or not before:
        return ""
    gains = {phase: after.get(phase, 0.0) - before.get(phase, 0.0) for phase in before}
    main = max(gains, key=lambda phase: gains[phase])
    share = gains[main] / added
    return f"; {main} is {'all' if share > 0.995 else percent(share)} of the increase"


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
    """Where prefill starts to cost more than vision and decode together."""
    gaps: list[tuple[float, float]] = []
    unit, sizes = tokens_of(sweep)
    for size, run in zip(sizes, sweep.runs, strict=True):
        phases = [run.number(f"{phase}_s") for phase in ("prefill", "vision", "decode")]
        if size is not None and None not in phases:
            prefill, vision, decode = (value or 0.0 for value in phases)
            gaps.append((size, prefill - vision - decode))
    gaps.sort()
    crossing = find_crossing([size for size, _ in gaps], [gap for _, gap in gaps])
    if crossing is not None:
        return f"Prefill exceeds vision and decode together above about {digits(crossing)} {unit}."
    if gaps and gaps[0][1] >= 0:
        return "Prefill exceeds vision and decode together at every size."
    return ""


def say_optimizations(sweep: Sweep) -> str:
    """The fastest variant against the plain model, its agreement, and the other variants."""
    verdicts = judge_variants(sweep.runs)
    if verdicts is None:
        return ""
    groups = {
        "Slower than the baseline": verdicts.slower,
        "No significant difference": verdicts.unclear,
    }
    return " ".join(
        [
            _say_fastest(verdicts),
            *(f"{what}: {_list_variants(runs)}." for what, runs in groups.items() if runs),
            *([] if verdicts.repetition is None else [_say_drift(verdicts, verdicts.repetition)]),
        ]
    )


def say_engines(sweep: Sweep) -> str:
    """How the other engines compare with the plain one in time and in answers."""
    plain = next((run for run in sweep.runs if run[sweep.key] == PLAIN_ENGINE), None)
    if plain is None:
        return ""
    others = (run for run in sweep.runs if run is not plain)
    said = "; ".join(_say_engine(run, plain, sweep.key) for run in others)
    return f"With {PLAIN_ENGINE} one batch takes {say_time(plain)}; {said}."


def _say_engine(run: Run, plain: Run, key: str) -> str:
    ratio, agreement = run["latency_s"] / plain["latency_s"], run["agreement"]
    same = f", {percent(agreement)} of the answers equal" if is_number(agreement) else ""
    name = escape.markdown(run[key])
    return f"with {name} {say_time(run)}, {times(ratio)} the time{same}"


def _say_fastest(verdicts: Verdicts) -> str:
    if verdicts.faster:
        return f"Fastest is {_say_speed(verdicts, verdicts.faster[0])}."
    others = [*verdicts.unclear, *verdicts.slower]
    nearest = max(others, key=lambda run: verdicts.speeds[run.name].value)
    return (
        "No optimization is significantly faster than the baseline; the nearest is"
        f" {_say_speed(verdicts, nearest)}."
    )


def _list_variants(runs: Sequence[Run]) -> str:
    return ", ".join(escape.markdown(run["optimization"]) for run in runs)


def _say_drift(verdicts: Verdicts, repetition: Run) -> str:
    name, speed = escape.markdown(repetition["optimization"]), verdicts.speeds[repetition.name]
    return (
        f"Here {name} is the same model as the baseline and measured {say_ratio(speed)}: smaller"
        " differences are drift of the machine."
    )


def _say_speed(verdicts: Verdicts, run: Run) -> str:
    speed, agreement = verdicts.speeds[run.name], run["agreement"]
    same = f", {percent(agreement)} of the answers equal" if is_number(agreement) else ""
    name = escape.markdown(run["optimization"])
    return f"{name}: {say_ratio(speed)} the baseline's speed{mark_run(run)}{same}"


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
        return f"{total} runs, all completed."
    parts = ", ".join(
        f"{count} {status.replace('_', ' ')}" for status, count in sorted(counts.items())
    )
    return f"{total} runs: {parts}."


def say_origin(runs: Sequence[Run]) -> list[str]:
    """The machine, the package versions and the fixed settings of runs."""
    said = [f"On {escape.markdown('; '.join(sorted({_name_machine(run) for run in runs})))}."]
    for package in ("torch", "transformers"):
        versions = {str((run.record.run.get("versions") or {}).get(package)) for run in runs}
        said.append(f"{package} {escape.markdown(', '.join(sorted(versions)))}.")
    for column in ("weights", "dataset", "device", "dtype", "max_new_tokens", "num_samples"):
        found = [str(value) for value in values_of(runs, column) if value is not None]
        if found:
            said.append(f"{metrics.find(column).title}: {escape.markdown(', '.join(found))}.")
    return said


def _name_machine(run: Run) -> str:
    machine = identify_machine(run.record)
    named = [str(machine["cpu_model"]), *map(str, machine["gpu_models"])]
    return f"{' with '.join(named)}, {machine['operating_system']}"


def say_ranking(runs: Sequence[Run]) -> str:
    """Models compared: the fastest, the slowest and the one with the best answers."""
    ranked = sorted(runs, key=lambda run: run["latency_s"])
    if len(ranked) < 2:
        return ""
    fast, slow = ranked[0], ranked[-1]
    ratio = slow["latency_s"] / fast["latency_s"]
    sentence = (
        f"**{escape.markdown(fast['model'])} is the fastest** at {say_time(fast)} per batch,"
        f" {escape.markdown(slow['model'])} the slowest at {say_time(slow)} ({times(ratio)})."
    )
    return " ".join(filter(None, (sentence, _say_best_answers(runs))))


def _say_best_answers(runs: Sequence[Run]) -> str:
    scored = [run for run in runs if is_number(run["wer"])]
    if not scored:
        return ""
    best = min(scored, key=lambda run: (run["wer"], run["latency_s"]))
    marked = f"{digits(best['wer'])}{mark_run(best)}"
    name, score = escape.markdown(best["model"]), metrics.find("wer").words
    return f"{name} has the best answers, with a {score} of {marked}."
