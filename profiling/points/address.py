"""What the fingerprint of a point is made of besides the point: plain values and the code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from profiling import PACKAGE

# The rooms that decide what a record holds. Records stay valid when any other room changes.
MEASURING = frozenset(
    {
        *("divergence", "engines", "runtimes", "models", "parts", "graphs", "samples", "machine"),
        *("probes", "quality", "costs", "statistics", "files", "records", "metrics", "runs"),
    }
)
# The modules of `runs` that start, arrange and announce the runs, and measure nothing.
_AROUND_MEASURING = frozenset(
    {
        *(
            "runs/announcing",
            "runs/entry",
            "runs/estimate",
            "runs/forecast",
            "runs/keeper",
            "runs/launching",
        ),
        *("runs/progress", "runs/session", "runs/sweep"),
    }
)


# The modules that compare two points: they decide what a comparison holds, and no record.
_COMPARING = "runs/paired/"


def canonical_json(value: object) -> str:
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def to_json(value: Any) -> Any:
    """The same in mappings with text keys, lists and scalars alone."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


@cache
def digest_code() -> str:
    """A digest of the code that measures points."""
    return digest_rooms(PACKAGE)


@cache
def digest_comparing_code() -> str:
    """A digest of the code that, besides, decides what a comparison holds."""
    return _digest(PACKAGE, lambda name: name.startswith(_COMPARING))


def digest_rooms(package: Path) -> str:
    """A digest of the modules that decide what a record holds, by name and content."""
    return _digest(package, _decides_records)


def _decides_records(name: str) -> bool:
    measures = name.split("/")[0] in MEASURING
    return measures and name not in _AROUND_MEASURING and not name.startswith(_COMPARING)


def _digest(package: Path, counts: Callable[[str], bool]) -> str:
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).with_suffix("").as_posix()
        if counts(name):
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
