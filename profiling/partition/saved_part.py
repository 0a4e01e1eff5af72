"""A saved part as a callable on arrays, and one whose programs have fixed shapes: numpy alone.

A program of a fixed shape is given what is smaller, filled up to its sizes: tokens at the front,
where a bias hides them, and everything else at the end. What it gives is cut to what was asked for.
"""

from __future__ import annotations

import ast
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy

from profiling.partition.pipeline import Array

# Takes the inputs in the order of the manifest, and gives the outputs in that order.
Compute = Callable[[Sequence[Array]], Sequence[Any]]
Sizes = Mapping[str, int]
# Tokens: what is added to them stands before them.
_AT_THE_FRONT = frozenset({"new", "past", "total", "encoded"})
_NEW, _PAST = "new", "past"


class SavedPart:
    """A part whose one program takes inputs of any size."""

    def __init__(self, told: Mapping[str, Any], compute: Compute) -> None:
        self.inputs = {value["name"]: value["shape"] for value in told["inputs"]}
        self.outputs = [value["name"] for value in told["outputs"]]
        self._dtypes = [numpy.dtype(value["dtype"]) for value in told["inputs"]]
        self._compute = compute

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        given = self.arrange(feeds)
        return [_own(made) for made in self._compute(given)]

    def arrange(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The inputs in order, in their dtypes and as the frameworks want them in memory."""
        return [
            numpy.ascontiguousarray(feeds[name], dtype)
            for name, dtype in zip(self.inputs, self._dtypes, strict=True)
        ]


class FixedPart(SavedPart):
    """A part that has a program for each of some sizes."""

    def __init__(self, told: Mapping[str, Any], programs: Sequence[Compute]) -> None:
        super().__init__(told, programs[0])
        self.name = told["name"]
        self._programs = list(
            zip((one["sizes"] for one in told["programs"]), programs, strict=True)
        )
        self._fills = [value.get("fill", 0) for value in told["inputs"]]
        self._shapes = [value["shape"] for value in told["outputs"]]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        given = self.arrange(feeds)
        asked = sizes_of(self.inputs.values(), given)
        sizes, compute = self.choose(asked)
        filled = [
            fill_up(array, shape, sizes, value)
            for array, shape, value in zip(given, self.inputs.values(), self._fills, strict=True)
        ]
        made = [numpy.asarray(one) for one in compute(filled)]
        return [_own(cut(one, shape, asked)) for one, shape in zip(made, self._shapes, strict=True)]

    def choose(self, asked: Sizes) -> tuple[Sizes, Compute]:
        """The smallest program that takes inputs of these sizes."""
        fitting = [
            (sum(sizes.values()), place)
            for place, (sizes, _) in enumerate(self._programs)
            if fits(asked, sizes)
        ]
        if not fitting:
            had = "; ".join(_describe(sizes) for sizes, _ in self._programs)
            sys.exit(
                f"{self.name} was saved for fixed shapes and cannot take {_describe(asked)}: it"
                f" takes up to {had}"
            )
        return self._programs[min(fitting)[1]]


def _own(made: Any) -> Array:
    """An array of the host that may be written into."""
    found = numpy.asarray(made)
    return found if found.flags.writeable else numpy.array(found)


def _describe(sizes: Sizes) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())


def fits(asked: Sizes, sizes: Sizes) -> bool:
    """Whether a program of these sizes can be given what is asked for."""
    if any(size > sizes[name] for name, size in asked.items() if name != "total"):
        return False
    if _PAST in asked:
        # Between the tokens of the cache and new ones there is no place to fill up.
        return asked[_NEW] == sizes[_NEW] or asked[_PAST] == sizes[_PAST] == 0
    return asked.get("total", 0) <= sizes.get("total", 0)


def sizes_of(shapes: Sequence[Any] | Any, arrays: Sequence[Array]) -> dict[str, int]:
    """The size of each named axis of these arrays."""
    found: dict[str, int] = {}
    for shape, array in zip(shapes, arrays, strict=True):
        for name, size in zip(shape, array.shape, strict=True):
            if isinstance(name, str):
                found[name] = size
    return found


def size_in(axis: int | str, sizes: Sizes) -> int:
    """The size of an axis: a number, or names and numbers with signs between them."""
    return axis if isinstance(axis, int) else _compute(ast.parse(axis, mode="eval").body, sizes)


_SIGNS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def _compute(written: ast.expr, sizes: Sizes) -> int:
    match written:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=name):
            return sizes[name]
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _SIGNS:
            return _SIGNS[type(sign)](_compute(left, sizes), _compute(right, sizes))
    raise ValueError(f"{ast.unparse(written)} is not the size of an axis")


def is_at_the_front(axis: int | str) -> bool:
    return isinstance(axis, str) and any(name in axis for name in _AT_THE_FRONT)


def fill_up(array: Array, shape: Sequence[Any], sizes: Sizes, value: Any) -> Array:
    widths = []
    for axis, length in zip(shape, array.shape, strict=True):
        missing = size_in(axis, sizes) - length
        widths.append((missing, 0) if is_at_the_front(axis) else (0, missing))
    if not any(map(sum, widths)):
        return array
    return numpy.pad(array, widths, constant_values=value)


def cut(array: Array, shape: Sequence[Any], asked: Sizes) -> Array:
    places = []
    for axis, length in zip(shape, array.shape, strict=True):
        wanted = size_in(axis, asked)
        places.append(slice(length - wanted, None) if is_at_the_front(axis) else slice(wanted))
    return array[tuple(places)]
