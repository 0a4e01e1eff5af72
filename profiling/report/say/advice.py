"""What to type to measure what the runs at hand cannot tell."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from profiling.metrics import SETTING_COLUMNS
from profiling.report.read.keys import PROFILER, list_differing, root_of, show_value
from profiling.report.read.runs import Run, find_paired
from profiling.report.say.changes import RATES, SPEEDUP, TIMED
from profiling.statistics.rounds import LEAST_ROUNDS

VERSUS = "python -m profiling.versus"
MAIN = "python main.py -m"
_USUAL_RESULTS = "results"
# Keys that are more than a name, and are typed at the root.
_FURTHER = ("seed", "preload", "threads")
# Keys whose choices have settings of their own, and those of them that follow from the choice.
_HOLDING = ("model", "optimization", "engine")
_IMPLIED = frozenset({"name", "kind", "order", "room", "runtime"})
# The profiler's keys that are typed on a command line.
_OVERRIDDEN = ("repeats", "time_budget_s")


def advise(column: str, before: Run, after: Run) -> str:
    """The command whose results have an interval for the change of a column.

    Paired comparisons time the whole and the phases that both sides mark; all else takes rounds.
    """
    is_timed = column in (*RATES, SPEEDUP, *TIMED)
    if is_timed and find_paired(after, before) is None:
        return say_how_to_pair(before, after)
    return say_how_to_repeat(before, after)


def say_how_to_pair(before: Run, after: Run) -> str:
    """The command that measures both in pairs, or in rounds where no setting tells them apart."""
    keys = _find_differing(before, after)
    if not keys:
        return say_how_to_repeat(before, after)
    sides = [f'"{" ".join(_type_side(run, keys))}"' for run in (before, after)]
    return f"{VERSUS} {' '.join(sides)} {_type_common(before, keys)}"


def say_how_to_repeat(before: Run, after: Run, *, rounds: int = LEAST_ROUNDS) -> str:
    """The sweep that measures both in so many rounds, one after the other in each.

    Settings that only one side has are no part of a sweep over both: these take a command each.
    """
    keys = _find_differing(before, after)
    common, numbers = _type_common(before, keys), ",".join(map(str, range(1, rounds + 1)))
    sides = [_type_side(run, keys) for run in (before, after)]
    if any(len(side) > len(keys) for side in sides):
        each = [" ".join(map(shlex.quote, side)) for side in sides]
        return " && ".join(f"{MAIN} {side} {common} round={numbers}" for side in each)
    swept = [shlex.quote(_type_both(before, after, key)) for key in keys]
    return " ".join([MAIN, *swept, common, f"round={numbers}"])


def _find_differing(before: Run, after: Run) -> list[str]:
    """The keys in which both differ; those inside other keys where no other one does."""
    differing = list_differing([before.settings, after.settings])
    return [key for key in differing if "." not in key] or differing


def _type_common(run: Run, differing: Sequence[str]) -> str:
    """The settings of a run that are not among these, and where its records lie."""
    roots = {root_of(key) for key in differing if "." not in key}
    keys = [k for k in (*SETTING_COLUMNS, *_FURTHER) if k not in roots and run[k] is not None]
    own = [root for root in _HOLDING if root not in roots]
    inner = [one for one in _type_inner(run, own) if one.partition("=")[0] not in differing]
    typed = [shlex.quote(one) for one in (*(_type(run, key) for key in keys), *inner)]
    place = _type_place(run)
    typed += [] if place is None or "dataset" in roots else [shlex.quote(place)]
    typed += [] if PROFILER in roots else _type_profiler(run)
    folder = run.record.folder.parent
    if folder != Path(_USUAL_RESULTS):
        typed.append(shlex.quote(f"results_dir={folder}"))
    return " ".join(typed)


def _type_side(run: Run, differing: Sequence[str]) -> list[str]:
    """The keys in which a run differs, and the settings of what it chose there."""
    chosen = [key for key in differing if key in _HOLDING]
    return [*(_type(run, key) for key in differing), *_type_inner(run, chosen)]


def _type_inner(run: Run, roots: Sequence[str]) -> list[str]:
    return [
        f"{key}={show_value(value)}"
        for key, value in run.settings.items()
        if "." in key and root_of(key) in roots and value is not None
        if key.rpartition(".")[2] not in _IMPLIED
    ]


def _type_place(run: Run) -> str | None:
    """The folder of one's own samples; those of the project are found by name."""
    dataset = run.record.config.get("dataset")
    folder = dataset.get("folder") if isinstance(dataset, Mapping) else None
    return f"dataset.folder={folder}" if isinstance(folder, str) and os.path.isabs(folder) else None


def _type_profiler(run: Run) -> list[str]:
    """The profiler's own keys: with others it is another point, which no run here is."""
    settings = run.record.config.get(PROFILER)
    if not isinstance(settings, Mapping):
        return []
    names = [f"{PROFILER}={settings.get('name')}"]
    return names + [
        f"{PROFILER}.{key}={settings[key]}" for key in _OVERRIDDEN if settings.get(key) is not None
    ]


def _type(run: Run, key: str) -> str:
    return f"{key}={_type_value(run.setting(key))}"


def _type_both(before: Run, after: Run, key: str) -> str:
    return f"{_type(before, key)},{_type_value(after.setting(key))}"


def _type_value(value: Any) -> str:
    """A stack of optimizations is a list."""
    if isinstance(value, str) and "+" in value:
        return f"[{','.join(value.split('+'))}]"
    return json.dumps(value) if isinstance(value, bool) else show_value(value)
