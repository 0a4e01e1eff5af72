"""What the fingerprint of a point is made of besides the point: plain values and the code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from profiling import PROJECT

# The rooms that decide what a record holds. Records stay valid when any other room changes.
MEASURING = frozenset(
    {
        *("engines", "runtimes", "models", "parts", "graphs", "samples", "machine"),
        *("probes", "quality", "costs", "statistics", "files", "records", "metrics", "runs"),
    }
)
# The modules of `runs` that start, arrange and announce the runs, and measure nothing.
_AROUND_MEASURING = frozenset(
    f"runs/{stem}"
    for stem in (
        "announcing",
        "estimate",
        "forecast",
        "keeper",
        "launching",
        "progress",
        "session",
        "sweep",
    )
)


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
    """A digest of the code that measures."""
    return digest_rooms(PROJECT / "profiling")


def digest_rooms(package: Path) -> str:
    """A digest of the modules that decide what a record holds, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).with_suffix("").as_posix()
        if name.split("/")[0] in MEASURING and name not in _AROUND_MEASURING:
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
