"""`profiling.run`: points are checked, measured in a worker process each, and read back."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TextIO

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from profiling.api.loaded import Results, read_folders
from profiling.api.overriding import write_overrides
from profiling.errors import ConfigError
from profiling.points.configuration import compose_config
from profiling.points.overrides import check_overrides, explain
from profiling.points.sweeping import list_values
from profiling.runs.session import Plan, forget_checked, plan_point
from profiling.runs.sweep import run_plans


def run(*overrides: str, stream: TextIO | None = None, **keys: object) -> Results:
    """Measure one point, or every combination of the values where keys have lists.

    The keys are those of main.py: `run(model="llava", img_size=[112, 224], profiler="quick")`. A
    key inside of another is typed as a text, `run("model.checkpoint=FOLDER", ...)`. A list is for
    values to take in turn, a tuple for one value with parts: `optimization=("bf16", "compile")`.

    Finished points are not measured again. What was measured is returned, and stays in
    `results_dir`. Progress goes to `stream`, else to the standard output.

    Raises `ValueError` before anything is measured where a key or a value is wrong, and
    `RuntimeError` where a point left no record. A point that failed has a record that says so.
    """
    plans = plan_points(write_overrides(overrides, keys))
    outcomes = run_plans(plans, stream or sys.stdout)
    folders = dict.fromkeys(Path(plan.point.results_dir) for plan in plans)
    results = read_folders(list(folders)).of_points([plan.fingerprint for plan in plans])
    recorded = {one.record.fingerprint for one in results}
    lost = [f"{one.error}" for name, one in outcomes.items() if name not in recorded]
    if lost:
        raise RuntimeError("; ".join(lost))
    return results


def plan_points(overrides: Sequence[str]) -> list[Plan]:
    """Every point of these overrides, checked; the same point is there once."""
    forget_checked()
    with one_line_errors():
        check_overrides(overrides)
        values = list_values(overrides)
        _check_keys(values)
        lists = [[f"{key}={value}" for value in listed] for key, listed in values.items()]
        plans = [plan_point(compose_config(job)) for job in product(*lists)]
    return list({plan.fingerprint: plan for plan in plans}.values())


def _check_keys(values: dict[str, list[str]]) -> None:
    """Refuse what only a command line can do."""
    for key, instead in {
        "experiment": "give the lists of values themselves",
        "dry": "`profiling.predict` counts without running",
        "hydra/launcher": "points run one after another",
    }.items():
        if key in values:
            allowed = f"allowed on the command line, python main.py {key}=…; here, {instead}"
            raise ConfigError(key, ",".join(values[key]), allowed)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Make what Hydra refuses a `ConfigError` of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        typed, _, allowed = explain(error).partition(": ")
        key, _, value = typed.partition("=")
        raise ConfigError(key, value, allowed) from None
