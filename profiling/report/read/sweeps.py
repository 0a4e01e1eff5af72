"""Find the sweeps among runs: groups that differ in one key of the configuration alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from profiling import metrics
from profiling.report.read.keys import (
    PROFILER,
    ROUND,
    list_differing,
    list_keys,
    root_of,
    show_value,
)
from profiling.report.read.plain_runs import (
    BASELINE,
    identify_machine,
    identify_setting,
    started,
)
from profiling.report.read.runs import Run, order_of, varies_by_round
from profiling.statistics.rounds import LEAST_ROUNDS

# Keys that say what was run, or how well it was measured; runs that differ in one are no sweep.
_NEVER_SWEPT = frozenset(
    {"model", "weights", "dataset", "num_samples", "seed", "trace", "divergence", ROUND, PROFILER}
)
# Named where runs of several kinds of machine are read together, though it is no setting.
MACHINE = "machine"
_WEIGHTS_ORDER = {"pretrained": 0, "random": 1, "tiny": 2}
# The metric that counts the tokens of a size.
TOKENS_OF = {
    **dict.fromkeys(("img_size", "num_pictures", "num_frames"), "num_visual_tokens"),
    "prompt_len": "num_question_tokens",
}


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Completed runs that differ in `key` alone, one per value, in the order of the values."""

    key: str
    runs: tuple[Run, ...]

    @property
    def values(self) -> list[Any]:
        return [run[self.key] for run in self.runs]

    @property
    def is_growing(self) -> bool:
        """Whether the key is a size, and not a choice."""
        return _are_numbers(self.values)


def find_sweeps(runs: Sequence[Run], key: str) -> list[Sweep]:
    """Every group with at least two values of the key; of repeated points the newest counts."""
    groups: dict[str, dict[Any, Run]] = defaultdict(dict)
    for run in sorted(filter(is_timed, runs), key=lambda run: started(run.record)):
        groups[identify_setting(run.record, key, ROUND)][run[key]] = run
    sweeps = [
        Sweep(key=key, runs=tuple(group[value] for value in sorted(group, key=order_of)))
        for group in groups.values()
        if len(group) > 1
    ]
    return sorted(sweeps, key=_sweep_order)


def growing_keys(runs: Sequence[Run]) -> list[str]:
    """The keys that are sizes and in which these runs differ."""
    return [key for key in _swept_keys(runs) if _are_numbers([run[key] for run in runs])]


def variant_keys(runs: Sequence[Run]) -> list[str]:
    """The keys that are choices and in which these runs differ."""
    return [key for key in _swept_keys(runs) if not _are_numbers([run[key] for run in runs])]


def _swept_keys(runs: Sequence[Run]) -> list[str]:
    differing = list_differing([run.settings for run in runs])
    return [key for key in differing if key == root_of(key) and key not in _NEVER_SWEPT]


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(
        value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
        for value in values
    )


def is_timed(run: Run) -> bool:
    return run.completed and run.number("latency_s") is not None


def _sweep_order(sweep: Sweep) -> tuple[Any, ...]:
    """Sort key: long sweeps first, then those of the plain model."""
    return (-len(sweep.runs), *plain_first(sweep.runs[0]))


def plain_first(run: Run) -> tuple[Any, ...]:
    """Sort key: the baseline and small sizes first, then the folder's name."""
    return (
        run["optimization"] != BASELINE,
        _WEIGHTS_ORDER.get(run["weights"], len(_WEIGHTS_ORDER)),
        bool(run["noisy"]),
        order_of(run["batch_size"]),
        run["prompt_len"] is not None,
        order_of(run["img_size"]),
        order_of(run["prompt_len"]),
        order_of(run["max_new_tokens"]),
        order_of(run["dataset"]),
        run.name,
    )


def pick_reference(runs: Sequence[Run]) -> Run:
    """The run that a page describes first: the plain model at the most frequent picture size."""
    sizes = [run["img_size"] for run in runs]
    return min(runs, key=lambda run: (-sizes.count(run["img_size"]), *plain_first(run)))


def newest(runs: Sequence[Run]) -> list[Run]:
    """One run per point, ordered by settings: the newest of its rounds and repetitions.

    A completed one, where there is one: what was measured is not lost by a later failure.
    """
    points: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (run.completed, started(run.record))):
        points[identify_setting(run.record, ROUND)] = run
    return _in_order(points.values())


def list_unfinished(runs: Sequence[Run]) -> list[Run]:
    """One run for each point of which a round's last attempt did not complete: the newest such."""
    last = {}
    for run in sorted(runs, key=lambda run: started(run.record)):
        last[identify_setting(run.record)] = run
    return newest([run for run in last.values() if not run.completed])


def _in_order(runs: Collection[Run]) -> list[Run]:
    keys = list_keys(run.settings for run in runs)
    return sorted(runs, key=lambda run: _setting_order(run, keys))


def pool_rounds(runs: Sequence[Run]) -> list[Run]:
    """One run per point in the order of settings, with the medians of its rounds where enough.

    Of fewer rounds than `LEAST_ROUNDS` the newest one stands alone. Where a round or repetition
    failed last, it stands beside what the others measured.
    """
    points: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.completed:
            points[identify_setting(run.record, ROUND)].append(run)
    pooled = [
        _pool(run, points.get(identify_setting(run.record, ROUND), [])) for run in newest(runs)
    ]
    known = {run.name for run in pooled}
    return _in_order([*pooled, *(run for run in list_unfinished(runs) if run.name not in known)])


def _pool(run: Run, rounds: Sequence[Run]) -> Run:
    if not run.completed or len(rounds) < LEAST_ROUNDS:
        return run
    pooled = replace(run, rounds=tuple(sorted(rounds, key=lambda one: started(one.record))))
    columns = dict(run.columns) | {"noisy": any(bool(one["noisy"]) for one in rounds)}
    for name in filter(varies_by_round, run.columns):
        values = [one.number(name) for one in rounds]
        known = [value for value in values if value is not None]
        columns[name] = median(known) if len(known) == len(values) else None
    return replace(pooled, columns=columns)


def _setting_order(run: Run, keys: Sequence[str]) -> tuple[Any, ...]:
    return (*(order_of(run.setting(key)) for key in keys), run.name)


def find_rounds(run: Run, runs: Sequence[Run]) -> list[Run]:
    """The completed runs of a run's point, rounds and repetitions, in the order of time."""
    point = identify_setting(run.record, ROUND)
    found = [
        other
        for other in runs
        if other.completed and identify_setting(other.record, ROUND) == point
    ]
    return sorted(found, key=lambda other: started(other.record))


def round_of(run: Run) -> int:
    return int(run.record.config.get(ROUND) or 1)


def describe_setting(run: Run, *, without: Sequence[str] = ()) -> str:
    """The setting of a run in words, and all else in which the runs of a report differ."""
    keys = [name for name in metrics.SETTING_COLUMNS if metrics.find(name).phrase]
    further = [key for key in run.distinct if key not in (*keys, "model", "weights")]
    phrases = [
        describe_value(key, run.setting(key))
        for key in (*keys, *further)
        if run.setting(key) is not None and key not in without
    ]
    if run.is_elsewhere and MACHINE not in without:
        phrases.append(f"on {name_machine(run)}")
    return ", ".join(phrases)


def name_machine(run: Run) -> str:
    """The processor, the boards and the operating system that a run was made on."""
    machine = identify_machine(run.record)
    named = [str(machine["cpu_model"] or "unknown processor")]
    named += map(str, machine["gpu_models"])
    system = machine["operating_system"]
    return " with ".join(named) + (f", {system}" if system else "")


def describe_value(key: str, value: Any) -> str:
    """The value of a key as a part of a sentence."""
    phrase = metrics.find(key).phrase if key in metrics.SETTING_COLUMNS else ""
    return phrase.format(value) if phrase else f"{key}={show_value(value)}"


def name_key(key: str) -> str:
    """What a key is called on a page."""
    if key in metrics.SETTING_COLUMNS:
        return metrics.find(key).title
    return key.replace("_", " ")


def tokens_of(sweep: Sweep) -> tuple[str, list[float | None]]:
    """The quantity that grows along a sweep: its name, and how much each run has."""
    sizes = [run.number(sweep.key) for run in sweep.runs]
    if sweep.key not in TOKENS_OF:
        name = {"batch_size": "batch", "max_new_tokens": "tokens"}.get(sweep.key)
        return name or name_key(sweep.key), sizes
    tokens = [run.number(TOKENS_OF[sweep.key]) for run in sweep.runs]
    # Some families give the language model the same number of visual tokens for every size.
    if sweep.key == "img_size" and len(set(tokens)) == 1:
        return "pixels", [None if side is None else side**2 for side in sizes]
    return "tokens", tokens
