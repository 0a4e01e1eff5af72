"""What the library reports about a loaded checkpoint: nothing may be missing or left over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from profiling.errors import ConfigError

_SHOWN = 3


def require_complete(place: str, report: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose tensors are not those of the network.

    The library fills in random values for a tensor that is missing or of another shape, and only
    warns. Tied tensors and buffers of older versions are not in its report.
    """
    complaints = [
        *_name("without", sorted(report["missing_keys"])),
        *_name("in another shape", sorted(map(_show_shapes, report["mismatched_keys"]))),
        *_name("unknown to the network", sorted(report["unexpected_keys"])),
    ]
    if complaints:
        raise ConfigError("model.checkpoint", place, "; ".join(complaints))


def _show_shapes(mismatch: tuple[str, Iterable[int], Iterable[int]]) -> str:
    name, found, expected = mismatch
    return f"{name} ({_show(found)} instead of {_show(expected)})"


def _show(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


def _name(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"tensors {what}: {', '.join(names[:_SHOWN])}{more}"]
