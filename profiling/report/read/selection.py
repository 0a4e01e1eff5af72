"""Find the run that a selector names: a folder, the start of a fingerprint, or key=value."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from profiling.errors import shorten
from profiling.metrics import SUMMARY_COLUMNS
from profiling.report.read.keys import list_differing, list_keys, show_value
from profiling.report.read.plain_runs import started
from profiling.report.read.runs import (
    ReportError,
    Run,
    order_of,
    read_runs,
)
from profiling.report.read.sweeps import find_rounds, name_machine, newest
from profiling.statistics.rounds import LEAST_ROUNDS


def select_sides(first: str, second: str, runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """The runs that two selectors name, each with the other rounds of its point.

    The run that is meant stands last. Rounds of one point are not divided between the sides: there
    each side is the run that was named. An error says which choices there are.
    """
    sides = select_rounds(first, runs), select_rounds(second, runs)
    if {run.name for run in sides[0]} & {run.name for run in sides[1]}:
        return sides[0][-1:], sides[1][-1:]
    return sides


def select_rounds(selector: str, runs: Sequence[Run]) -> list[Run]:
    """The run that a selector names, after the other rounds of its point if they are enough."""
    run, among = _select(selector, runs)
    return _add_rounds(run, selector, among)


def _select(selector: str, runs: Sequence[Run]) -> tuple[Run, Sequence[Run]]:
    """The run that a selector names, and the runs among which its rounds are."""
    if os.path.isfile(os.path.join(selector, "run.json")):
        return _read_one(Path(selector))
    if "=" in selector:
        return _select_by_values(selector, runs), runs
    matching = [run for run in runs if run.name.startswith(selector)]
    if not matching:
        raise ReportError(
            f"{shorten(selector)}: no such folder with a run, and no fingerprint begins so"
            f" ({len(runs)} runs)"
        )
    return _only(selector, matching), runs


def _add_rounds(run: Run, selector: str, among: Sequence[Run]) -> list[Run]:
    """All rounds of a point, if they are enough to judge by; a repetition named is that one."""
    is_repetition = run.name != run.record.fingerprint
    if is_repetition and Path(selector).name == run.name:
        return [run]
    others = [other for other in find_rounds(run, among) if other.name != run.name]
    return [*others, run] if len(others) + 1 >= LEAST_ROUNDS else [run]


def _read_one(folder: Path) -> tuple[Run, Sequence[Run]]:
    found = read_runs(folder.resolve().parent)
    for run in found.runs:
        if run.record.folder.name == folder.resolve().name:
            return run, found.runs
    broken = [problem for problem in found.problems if str(folder.resolve()) in problem]
    raise ReportError(broken[0] if broken else f"{folder}: cannot be read as a run")


def _select_by_values(selector: str, runs: Sequence[Run]) -> Run:
    wanted = parse_values(selector, list_keys(run.settings for run in runs))
    matching = [run for run in runs if matches(run, wanted)]
    if not matching:
        raise ReportError(f"{shorten(selector)}: no run has these values{_suggest(wanted, runs)}")
    return _only(selector, matching)


def parse_values(text: str, keys: Sequence[str] = ()) -> dict[str, str]:
    """`batch_size=4,img_size=224` as columns and values; `keys` are allowed as well."""
    wanted = {}
    for part in text.split(","):
        column, equals, value = part.partition("=")
        if not equals:
            raise ReportError(f"{shorten(text)}: {shorten(part)!r} is not of the form key=value")
        wanted[check_column(column.strip(), keys)] = value.strip()
    return wanted


def check_column(column: str, keys: Sequence[str] = ()) -> str:
    """The column or key, or an error with those that are spelled similarly."""
    known = (*SUMMARY_COLUMNS, *keys)
    if column in known:
        return column
    close = difflib.get_close_matches(column[:100], known, n=3)
    hint = f"; similar: {', '.join(dict.fromkeys(close))}" if close else ""
    raise ReportError(f"{shorten(column)}: there is no such column{hint}")


def matches(run: Run, wanted: Mapping[str, str]) -> bool:
    return all(is_value(run.setting(column), text) for column, text in wanted.items())


def is_value(value: Any, text: str) -> bool:
    """Whether a value is the one that was typed."""
    if value is None:
        return text in ("", "null", "none")
    if isinstance(value, bool):
        return text.lower() == str(value).lower()
    if isinstance(value, str):
        return value == text
    try:
        return float(text) == value
    except ValueError:
        return False


def _suggest(wanted: Mapping[str, str], runs: Iterable[Run]) -> str:
    """The values of the first key for which no run has the value that was typed."""
    runs = list(runs)
    for column, text in wanted.items():
        if not any(is_value(run.setting(column), text) for run in runs):
            return f"; {column} is one of {_list_values(runs, column)}"
    return " together"


def _list_values(runs: Iterable[Run], key: str) -> str:
    values = sorted({run.setting(key) for run in runs}, key=order_of)
    return ", ".join(map(show_value, values))


def _only(selector: str, matching: Sequence[Run]) -> Run:
    """The newest repetition of the one point that matches; several points are an error."""
    completed = [run for run in matching if run.completed] or list(matching)
    points = newest(completed)
    if len(points) == 1:
        return points[0]
    differing = list_differing([run.settings for run in points])
    choices = "; ".join(f"{key}={_list_values(points, key)}" for key in differing)
    if not choices:
        choices = f"the fingerprint: {', '.join(map(_describe_origin, points))}"
    raise ReportError(f"{shorten(selector)}: {len(points)} runs match; narrow it down by {choices}")


def _describe_origin(run: Run) -> str:
    """A run beside others of the same settings: when it was measured, and where."""
    where = f" on {name_machine(run)}" if run.is_elsewhere else ""
    return f"{run.short} ({started(run.record)[0] or 'no time recorded'}{where})"
