"""What the fingerprint of a point is made of besides the point: plain values and the code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from profiling import PROJECT


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
    """A digest of the code that measures: all of this package except the reports."""
    package = PROJECT / "profiling"
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith("report/"):
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
