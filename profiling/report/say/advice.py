"""What to type to measure what the runs at hand cannot tell."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from profiling.metrics import SETTING_COLUMNS
from profiling.report.read.keys import PROFILER, list_differing, root_of, show_value
from profiling.report.read.runs import Run

VERSUS = "python -m profiling.versus"
MAIN = "python main.py -m"
_USUAL_RESULTS = "results"
# Keys that are more than a name, and are typed at the root.
_FURTHER = ("seed", "preload", "threads")
# The profiler's keys that are typed on a command line.
_OVERRIDDEN = ("repeats", "time_budget_s")


def say_how_to_pair(before: Run, after: Run) -> str:
    """The command that measures both in pairs, or in rounds where no setting tells them apart."""
    differing = [key for key in list_differing([before.settings, after.settings]) if "." not in key]
    inner = [k for k in list_differing([before.settings, after.settings]) if "." in k]
    keys = differing or inner
    if not keys:
        return f"measure both in rounds: {MAIN} {_type_common(before, ())} round=1,2,3"
    sides = [f'"{" ".join(_type(run, key) for key in keys)}"' for run in (before, after)]
    return f"{VERSUS} {' '.join(sides)} {_type_common(before, keys)}"


def _type_common(run: Run, differing: Sequence[str]) -> str:
    """The settings of a run that are not among these, and where its records lie."""
    roots = {root_of(key) for key in differing if "." not in key}
    keys = [k for k in (*SETTING_COLUMNS, *_FURTHER) if k not in roots and run[k] is not None]
    typed = [shlex.quote(_type(run, key)) for key in keys]
    typed += [] if PROFILER in roots else _type_profiler(run)
    folder = run.record.folder.parent
    if folder != Path(_USUAL_RESULTS):
        typed.append(shlex.quote(f"results_dir={folder}"))
    return " ".join(typed)


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
    """A key with its value; a stack of optimizations is a list."""
    value = run[key]
    if isinstance(value, str) and "+" in value:
        return f"{key}=[{','.join(value.split('+'))}]"
    return f"{key}={json.dumps(value) if isinstance(value, bool) else show_value(value)}"
