"""The differences between two runs that the page can show, as `compare` computes them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any

from profiling import metrics
from profiling.report.read.plain_runs import BASELINE, PLAIN_ENGINE
from profiling.report.read.runs import Run
from profiling.report.read.sweeps import find_sweeps, growing_keys, variant_keys
from profiling.report.say import escape
from profiling.report.say.two_runs import HEADS, compare_points

# All pairs of 45 runs. Each takes some milliseconds and about a kilobyte.
MOST_PAIRS = 1_000
_LONGEST = 2_000
_SHORT = 8
_COMPARE = "python -m profiling.report compare"
_CLOSE_KEYS = ("model", "weights", "dataset")


def compare_pairs(runs: Sequence[Run], *, results: str) -> dict[str, Any]:
    """Each pair under the positions of its runs; the plain model, or the earlier one, is A."""
    found = {}
    for a, b in _choose(runs):
        found[f"{a} {b}"] = _compare(runs[a], runs[b])
    heads = {name: metrics.find(name).title for name in _list_rows(found)}
    return {
        "heads": HEADS,
        "titles": heads,
        "found": found,
        "names": [shlex.quote(name) for name in _name_points(runs)],
        "command": _COMPARE,
        "results": f"--results {shlex.quote(results)}",
    }


def _list_rows(found: dict[str, Any]) -> list[str]:
    return sorted({row[0] for pair in found.values() for row in pair["rows"]})


def _name_points(runs: Sequence[Run]) -> list[str]:
    """What a person types for each run: the beginning of its fingerprint where that is enough."""
    wholes = [run.record.fingerprint for run in runs]
    begins = Counter(whole[:_SHORT] for whole in wholes)
    return [whole[:_SHORT] if begins[whole[:_SHORT]] == 1 else whole for whole in wholes]


def _compare(before: Run, after: Run) -> dict[str, Any]:
    found = compare_points(*(run.rounds or (run,) for run in (before, after)))
    said = (found.conditions, *found.cautions, found.latency, *found.answers)
    return {
        "sides": found.sides,
        "said": [escape.shorten(sentence, _LONGEST) for sentence in said],
        "rows": found.rows,
    }


def _choose(runs: Sequence[Run]) -> list[tuple[int, int]]:
    """All pairs of completed runs if they are few, else those that a reader compares first."""
    places = [place for place, run in enumerate(runs) if run.completed]
    pairs: Iterator[tuple[int, int]] = combinations(places, 2)
    if len(places) * (len(places) - 1) // 2 > MOST_PAIRS:
        pairs = _list_close(runs, places)
    chosen: dict[tuple[int, int], None] = {}
    for a, b in pairs:
        chosen[_order(a, b, runs)] = None
        if len(chosen) == MOST_PAIRS:
            break
    return list(chosen)


def _order(a: int, b: int, runs: Sequence[Run]) -> tuple[int, int]:
    def is_changed(place: int) -> tuple[bool, bool, int]:
        run = runs[place]
        return run["optimization"] != BASELINE, run["engine"] not in (None, PLAIN_ENGINE), place

    first, second = sorted((a, b), key=is_changed)
    return first, second


def _list_close(runs: Sequence[Run], places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs with their baselines, then those that differ in one key, neighbours first."""
    by_name = {runs[place].name: place for place in places}
    for place in places:
        baseline = by_name.get(runs[place].baseline or "")
        if baseline is not None and baseline != place:
            yield baseline, place
    completed = [runs[place] for place in places]
    keys = [*variant_keys(completed), *growing_keys(completed), *_CLOSE_KEYS]
    swept = [
        [by_name[run.name] for run in sweep.runs]
        for key in keys
        for sweep in find_sweeps(completed, key)
    ]
    for own in swept:
        yield from pairwise(own)
    for own in swept:
        yield from combinations(own, 2)
