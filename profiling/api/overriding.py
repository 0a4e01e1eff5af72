"""Keys of main.py written in Python: from values to what is typed on a command line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from profiling.errors import ConfigError
from profiling.points.overrides import quote

# A text that Hydra's grammar reads as it stands, and as a text.
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_OTHERS = frozenset({"true", "false", "null", "nan", "inf"})


def write_overrides(typed: Iterable[object], keys: Mapping[str, Any]) -> list[str]:
    """Overrides as they are typed: those that are texts, then those that are keys with values."""
    for one in typed:
        if not isinstance(one, str) or one.startswith("-") or "=" not in one:
            raise ConfigError("override", one, "allowed is a text such as 'img_size=224'")
    return [*map(str, typed), *(f"{key}={write_value(key, value)}" for key, value in keys.items())]


def write_value(key: str, value: object) -> str:
    """A list is values to take in turn; a tuple is one value that has several parts, as a stack."""
    if isinstance(value, (list, range)):
        if not value:
            raise ConfigError(key, value, "allowed is a list with at least one value")
        return ",".join(_write_one(key, one) for one in value)
    return _write_one(key, value)


def _write_one(key: str, value: object) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(_write_one(key, part) for part in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(value)
        is_plain = _PLAIN.fullmatch(text) and text.lower() not in _OTHERS
        return text if is_plain else quote(text)
    kind = type(value).__name__
    raise ConfigError(key, kind, "allowed are texts, numbers, True, False, None, lists and tuples")
