"""The configuration keys of runs: what each run was set to, and in which keys runs differ."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from profiling.metrics import SETTING_COLUMNS

# Keys that change nothing about what is measured: where things lie, and how runs are started.
NOT_MEASURED = ("results_dir", "resume", "strict", "share_device", "experiment", "hydra")
_PLACES = ("dataset.folder",)
# A round measures the same point again, after all other points.
ROUND = "round"
# How long and how precisely is measured; what is inside it fills a page.
PROFILER = "profiler"
# A record may hold any text; nothing else can be a key, the name of a figure or a table's head.
_NAME = re.compile(r"[A-Za-z]\w{0,40}")

Settings = Mapping[str, Any]


def read_settings(config: Mapping[str, Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    """Each key with its value; `model.dtype` is the key `dtype` inside of `model`.

    Where the summary has a column for a key, its value counts. A metric that is called like a key,
    as `divergence` is, is no such column.
    """
    found: dict[str, Any] = dict.fromkeys(SETTING_COLUMNS)
    for key, value in config.items():
        if _NAME.fullmatch(key) and key not in NOT_MEASURED:
            found.update(_flatten(key, value))
    known = {key: columns[key] for key in SETTING_COLUMNS if columns.get(key) is not None}
    return {key: known.get(key, value) for key, value in found.items() if key not in _PLACES}


def _flatten(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A key, and the keys inside it: a choice has a name, and a stack has a name for each part."""
    if not isinstance(value, Mapping):
        yield key, _as_plain(value)
        return
    name = value.get("name")
    yield key, name if isinstance(name, str) else "+".join(map(str, value)) or None
    if key != PROFILER:
        for inner, inner_value in value.items():
            if inner != "name" and _NAME.fullmatch(inner):
                yield from _flatten_inner(f"{key}.{inner}", inner_value)


def _flatten_inner(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield key, _as_plain(value)
        return
    for inner, inner_value in value.items():
        if _NAME.fullmatch(inner):
            yield from _flatten_inner(f"{key}.{inner}", inner_value)


def _as_plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def list_keys(settings: Iterable[Settings]) -> list[str]:
    """All keys of these runs, those inside a key right behind it."""
    found = dict.fromkeys(key for own in settings for key in own)
    roots = list(dict.fromkeys(root_of(key) for key in found))
    return sorted(found, key=lambda key: roots.index(root_of(key)))


def root_of(key: str) -> str:
    return key.partition(".")[0]


def list_differing(settings: Sequence[Settings]) -> list[str]:
    """The keys in which runs differ, rounds aside.

    A key inside another one counts only among runs that have the same value of the outer one.
    """
    return [key for key in list_keys(settings) if key != ROUND and _differs(key, settings)]


def _differs(key: str, settings: Sequence[Settings]) -> bool:
    values: dict[Any, set[Any]] = defaultdict(set)
    for own in settings:
        values[own.get(root_of(key)) if "." in key else None].add(own.get(key))
    return any(len(distinct) > 1 for distinct in values.values())


def show_value(value: Any) -> str:
    """A value as a person would type it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)
