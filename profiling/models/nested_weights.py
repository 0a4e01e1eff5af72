"""Flat names of weights as nested dicts and lists, and back.

`blocks.10.norm.weight` becomes `["blocks"][10]["norm"]["weight"]`. Numbers from 0 without gaps
become a list, so blocks stand in the order of their numbers (as strings, 10 comes before 2).
Numbers with gaps stay the keys of a dict, as integers. The way back gives the same names and the
same values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Nested = Any  # a dict or a list of these, or a value


def nest(flat: Mapping[str, Any]) -> Nested:
    """Nested weights by the parts of their names; ValueError where a name is also a prefix."""
    root: dict[str, Nested] = {}
    parts = {id(root)}
    for name, value in flat.items():
        *path, last = name.split(".")
        place = root
        for step in path:
            place = place.setdefault(step, {})
            if isinstance(place, dict) and not place:
                parts.add(id(place))
            if id(place) not in parts:
                raise ValueError(f"{name}: {step} is a value and has parts")
        if last in place:
            raise ValueError(f"{name} is a value and has parts")
        place[last] = value
    return _numbered(root, parts)


def _numbered(part: Nested, parts: set[int]) -> Nested:
    if id(part) not in parts:
        return part
    inner = {name: _numbered(value, parts) for name, value in part.items()}
    if not inner or not all(map(_is_number, inner)):
        return inner
    ordered = dict(sorted((int(name), value) for name, value in inner.items()))
    return list(ordered.values()) if list(ordered) == list(range(len(ordered))) else ordered


def _is_number(name: str) -> bool:
    """Whether the name is what `str` makes of a whole number: "1", not "01"."""
    return name.isdecimal() and str(int(name)) == name


def flatten(nested: Nested) -> dict[str, Any]:
    """The values by their names with dots: the inverse of `nest`."""
    return {".".join(path): value for path, value in _walk(nested, ())}


def _walk(nested: Nested, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(nested, list):
        nested = dict(enumerate(nested))
    if not isinstance(nested, dict):
        yield path, nested
        return
    for name, part in nested.items():
        yield from _walk(part, (*path, str(name)))


def part_at(nested: Nested, path: str) -> Nested:
    """The part at a module's path; the whole for an empty path, {} where nothing is stored."""
    for step in path.split(".") if path else ():
        key = int(step) if _is_number(step) else step
        if isinstance(nested, list):
            nested = dict(enumerate(nested))
        if not isinstance(nested, dict):
            return {}
        nested = nested.get(key, nested.get(step, {}))
    return nested
