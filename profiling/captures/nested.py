"""Flat names of tensors as nested dicts and lists, and back.

`blocks.10.weight` is `["blocks"][10]["weight"]`. Names that are the numbers from 0 without a gap
become a list, so that blocks stand in the order of their numbers and not of their digits; where
numbers are missing, the numbers are the keys of a dict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Nested = Any  # a dict or a list of these, or a value


def nest(flat: Mapping[str, Any]) -> Nested:
    """Nested values of flat names; a name that is both a value and a part is refused."""
    root: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        place = root
        for step in path:
            place = place.setdefault(step, _Part())
            if not isinstance(place, _Part):
                raise ValueError(f"{name}: {step} is a value and a part")
        if last in place:
            raise ValueError(f"{name}: {last} is a value and a part")
        place[last] = value
    return _number(root)


class _Part(dict[str, Any]):
    """Told apart from a value that is a dict."""


def _number(part: dict[str, Any]) -> Nested:
    inner = {n: _number(value) if isinstance(value, _Part) else value for n, value in part.items()}
    if not inner or not all(map(_is_number, inner)):
        return inner
    ordered = dict(sorted((int(name), value) for name, value in inner.items()))
    return list(ordered.values()) if list(ordered) == list(range(len(ordered))) else ordered


def _is_number(name: str) -> bool:
    """Whether the number alone gives the name back: not 007, no digits of other scripts."""
    return name.isascii() and name.isdecimal() and len(name) < 10 and str(int(name)) == name


def flatten(nested: Nested) -> dict[str, Any]:
    """Flat names of nested values: the inverse of `nest`, in the order of numbers."""
    return {".".join(path): value for path, value in _walk(nested, ())}


def _walk(nested: Nested, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(nested, dict | list):
        yield path, nested
        return
    pairs = enumerate(nested) if isinstance(nested, list) else nested.items()
    for name, part in pairs:
        yield from _walk(part, (*path, str(name)))


def transform(nested: Nested, change: Callable[[Any], Any]) -> Nested:
    """The same nesting with every value changed."""
    if isinstance(nested, list):
        return [transform(part, change) for part in nested]
    if isinstance(nested, dict):
        return {name: transform(part, change) for name, part in nested.items()}
    return change(nested)


def part_at(flat: Mapping[str, Any], path: str) -> Nested:
    """The nested part below a module's path; {} where the module has no values."""
    if not path:
        return nest(flat)
    start = path + "."
    return nest({name[len(start) :]: v for name, v in flat.items() if name.startswith(start)})
