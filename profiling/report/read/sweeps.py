"""Find the sweeps among runs: groups that differ by one key of the configuration alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from profiling.report.read.plain_runs import BASELINE, identify_setting, started
from profiling.report.read.runs import Run, order_of

# A round measures the same point again, after the other points had their turn.
ROUND = "round"
GROWING_KEYS = ("img_size", "prompt_len", "batch_size", "max_new_tokens")
SETTING_COLUMNS = ("dataset", "optimization", "img_size", "prompt_len", "batch_size")
_WEIGHTS_ORDER = {"pretrained": 0, "random": 1, "tiny": 2}
ALL_SETTING_COLUMNS = ("model", "weights", *SETTING_COLUMNS, "max_new_tokens", "device")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Completed runs that differ by `key` alone, one a value, in the order of the values."""

    key: str
    runs: tuple[Run, ...]

    @property
    def values(self) -> list[Any]:
        return [run[self.key] for run in self.runs]


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
    return sorted(sweeps, key=_plainness)


def is_timed(run: Run) -> bool:
    return run.completed and run.number("latency_s") is not None


def _plainness(sweep: Sweep) -> tuple[Any, ...]:
    """Long sweeps of the plain model come first."""
    return (-len(sweep.runs), *plainness(sweep.runs[0]))


def plainness(run: Run) -> tuple[Any, ...]:
    """Orders runs from the plainest setting on; the folder's name settles a tie."""
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
    """The run to speak of first: the plain model, one picture at the most usual size."""
    sizes = [run["img_size"] for run in runs]
    return min(runs, key=lambda run: (-sizes.count(run["img_size"]), *plainness(run)))


def newest(runs: Sequence[Run]) -> list[Run]:
    """One run a point, the newest of its rounds and repetitions, in the order of the settings."""
    points: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: started(run.record)):
        points[identify_setting(run.record, ROUND)] = run
    return sorted(points.values(), key=setting_order)


def find_rounds(run: Run, runs: Sequence[Run]) -> list[Run]:
    """The completed rounds of a run's point, one run a round, in order."""
    point = identify_setting(run.record, ROUND)
    rounds: dict[int, Run] = {}
    for other in sorted(runs, key=lambda other: started(other.record)):
        if other.completed and identify_setting(other.record, ROUND) == point:
            rounds[round_of(other)] = other
    return [rounds[number] for number in sorted(rounds)]


def round_of(run: Run) -> int:
    return int(run.record.config.get(ROUND) or 1)


def setting_order(run: Run) -> tuple[Any, ...]:
    return (*(order_of(run[column]) for column in ALL_SETTING_COLUMNS), run.name)


def describe_setting(run: Run, *, without: Sequence[str] = ()) -> str:
    """The setting of a run in words."""
    words = {
        "dataset": f"{run['dataset']}",
        "optimization": f"{run['optimization']}",
        "img_size": f"{run['img_size']} px",
        "prompt_len": "" if run["prompt_len"] is None else f"{run['prompt_len']} question tokens",
        "batch_size": f"batch {run['batch_size']}",
        "max_new_tokens": f"{run['max_new_tokens']} new tokens",
    }
    return ", ".join(text for key, text in words.items() if text and key not in without)


def tokens_of(sweep: Sweep) -> tuple[str, list[float | None]]:
    """What grows along a sweep, by name, and how much of it each run has."""
    if sweep.key in ("batch_size", "max_new_tokens"):
        name = {"batch_size": "batch", "max_new_tokens": "tokens"}[sweep.key]
        return name, [run.number(sweep.key) for run in sweep.runs]
    if sweep.key == "prompt_len":
        return "tokens", [run.number("num_question_tokens") for run in sweep.runs]
    visual = [run.number("num_visual_tokens") for run in sweep.runs]
    # Some families hand the language model as many visual tokens whatever the picture's size.
    if len(set(visual)) > 1:
        return "tokens", visual
    return "pixels", [None if side is None else side**2 for side in _sides(sweep)]


def _sides(sweep: Sweep) -> list[float | None]:
    return [run.number("img_size") for run in sweep.runs]
