"""Operators on shapes and places: what moves values and computes none."""

from __future__ import annotations

import math
from typing import Any

import numpy

from profiling.runtimes.native.adapter import Adapter, Array
from profiling.runtimes.native.operator_table import (
    Attributes,
    NotCovered,
    operator,
    whole_numbers,
)

# Slices that end here or beyond mean: to the end.
_FAR = 2**31 - 1


@operator("Identity", "Dropout")
def same(arrays: Adapter, given: Attributes, x: Array, *_: Any) -> Array:
    return x


# Made of shapes: computed on the host


@operator("Shape", attributes=["start", "end"])
def shape(arrays: Adapter, given: Attributes, x: Array) -> Array:
    whole = arrays.shape_of(x)
    return numpy.array(whole[given.get("start", 0) : given.get("end")], numpy.int64)


@operator("Size")
def size(arrays: Adapter, given: Attributes, x: Array) -> Array:
    return numpy.array(math.prod(arrays.shape_of(x)), numpy.int64)


@operator("Range", static=[0, 1, 2])
def count_up(arrays: Adapter, given: Attributes, start: Any, stop: Any, step: Any) -> Array:
    return numpy.arange(start.item(), stop.item(), step.item(), dtype=start.dtype)


@operator("ConstantOfShape", attributes=["value"], static=[0])
def fill(arrays: Adapter, given: Attributes, lengths: Any) -> Array:
    value = given.get("value", numpy.zeros(1, numpy.float32))
    return numpy.full(whole_numbers(lengths), value.item(), value.dtype)


# Shapes


@operator("Reshape", attributes=["allowzero"], static=[1])
def reshape(arrays: Adapter, given: Attributes, x: Array, lengths: Any) -> Array:
    known, wanted = arrays.shape_of(x), whole_numbers(lengths)
    if not given.get("allowzero"):
        wanted = tuple(known[i] if length == 0 else length for i, length in enumerate(wanted))
    if -1 in wanted:
        others = math.prod(length for length in wanted if length != -1)
        rest = math.prod(known) // others if others else 0
        wanted = tuple(rest if length == -1 else length for length in wanted)
    return x if wanted == known else arrays.reshape(x, wanted)


@operator("Flatten", attributes=["axis"])
def flatten(arrays: Adapter, given: Attributes, x: Array) -> Array:
    known, axis = arrays.shape_of(x), given.get("axis", 1)
    axis = axis + len(known) if axis < 0 else axis
    return arrays.reshape(x, (math.prod(known[:axis]), math.prod(known[axis:])))


@operator("Squeeze", attributes=["axes"], static=[1])
def squeeze(arrays: Adapter, given: Attributes, x: Array, axes: Any = None) -> Array:
    known = arrays.shape_of(x)
    chosen = given.get("axes") if axes is None else whole_numbers(axes)
    if chosen is None:
        chosen = [place for place, length in enumerate(known) if length == 1]
    gone = {axis % len(known) for axis in chosen}
    kept = tuple(length for place, length in enumerate(known) if place not in gone)
    return arrays.reshape(x, kept)


@operator("Unsqueeze", attributes=["axes"], static=[1])
def unsqueeze(arrays: Adapter, given: Attributes, x: Array, axes: Any = None) -> Array:
    chosen = given["axes"] if axes is None else whole_numbers(axes)
    known = arrays.shape_of(x)
    rank = len(known) + len(chosen)
    added, rest = {axis % rank for axis in chosen}, iter(known)
    wanted = tuple(1 if place in added else next(rest) for place in range(rank))
    return arrays.reshape(x, wanted)


@operator("Transpose", attributes=["perm"])
def transpose(arrays: Adapter, given: Attributes, x: Array) -> Array:
    return arrays.transpose(x, tuple(given.get("perm", range(len(x.shape))[::-1])))


@operator("Expand", static=[1])
def expand(arrays: Adapter, given: Attributes, x: Array, lengths: Any) -> Array:
    known = arrays.shape_of(x)
    wanted = numpy.broadcast_shapes(known, whole_numbers(lengths))
    return x if wanted == known else arrays.expand(x, wanted)


@operator("Tile", static=[1])
def tile(arrays: Adapter, given: Attributes, x: Array, repeats: Any) -> Array:
    return arrays.tile(x, whole_numbers(repeats))


@operator("Concat", attributes=["axis"])
def concatenate(arrays: Adapter, given: Attributes, *parts: Array) -> Array:
    axis = given["axis"] % len(parts[0].shape)
    # Of no length is, for example, a cache before its first token.
    held = [part for part in parts if part.shape[axis]] or parts[:1]
    return held[0] if len(held) == 1 else arrays.concatenate(held, axis)


@operator("Split", attributes=["axis", "num_outputs"], static=[1], outputs=None)
def split(arrays: Adapter, given: Attributes, x: Array, lengths: Any = None) -> tuple[Array, ...]:
    axis = given.get("axis", 0) % len(x.shape)
    whole = arrays.shape_of(x)[axis]
    if lengths is None:
        if "num_outputs" not in given:
            raise NotCovered("neither lengths nor num_outputs")
        count = given["num_outputs"]
        each = -(-whole // count)
        sizes: tuple[int, ...] = (*[each] * (count - 1), whole - each * (count - 1))
    else:
        sizes = whole_numbers(lengths)
    found, start = [], 0
    for length in sizes:
        found.append(arrays.slice(x, (*[slice(None)] * axis, slice(start, start + length))))
        start += length
    return tuple(found)


@operator("Slice", static=[1, 2, 3, 4])
def cut(
    arrays: Adapter,
    given: Attributes,
    x: Array,
    starts: Any,
    stops: Any,
    axes: Any = None,
    steps: Any = None,
) -> Array:
    first, last = whole_numbers(starts), whole_numbers(stops)
    places = range(len(first)) if axes is None else whole_numbers(axes)
    strides = [1] * len(first) if steps is None else whole_numbers(steps)
    known = arrays.shape_of(x)
    chosen = [slice(None)] * len(known)
    for start, stop, place, stride in zip(first, last, places, strides, strict=True):
        chosen[place] = _slice(known[place], start, stop, stride)
    if all(one == slice(None) for one in chosen):
        return x
    return arrays.slice(x, tuple(chosen))


def _slice(length: int, start: int, stop: int, stride: int) -> slice:
    """The slice of an axis of that length, with nothing left to count from its end."""
    end = None if abs(stop) >= _FAR and (stop > 0) == (stride > 0) else stop
    taken = range(length)[slice(start, end, stride)]
    if not taken:
        return slice(0, 0)
    if len(taken) == length and stride == 1:
        return slice(None)
    # A slice backwards to the first value has no number for its end.
    return slice(taken.start, taken.stop if taken.stop >= 0 else None, stride)


@operator("Pad", attributes=["mode"], static=[1, 2, 3])
def pad(
    arrays: Adapter, given: Attributes, x: Array, widths: Any, value: Any = None, axes: Any = None
) -> Array:
    if given.get("mode", "constant") != "constant":
        raise NotCovered(f"mode={given['mode']}")
    rank, numbers = len(x.shape), whole_numbers(widths)
    places = range(rank) if axes is None else whole_numbers(axes)
    before, behind = numbers[: len(places)], numbers[len(places) :]
    chosen = [(0, 0)] * rank
    for place, one, other in zip(places, before, behind, strict=True):
        chosen[place] = (one, other)
    if min(map(min, chosen), default=0) < 0:
        raise NotCovered("negative widths")
    return arrays.pad(x, chosen, 0 if value is None else value.item())


@operator("Trilu", attributes=["upper"], static=[1])
def triangle(arrays: Adapter, given: Attributes, x: Array, diagonal: Any = None) -> Array:
    rows, columns = arrays.shape_of(x)[-2:]
    offset = 0 if diagonal is None else int(diagonal)
    upper = bool(given.get("upper", 1))
    kept = numpy.triu if upper else numpy.tril
    mask = arrays.put(kept(numpy.ones((rows, columns), bool), offset))
    zero = arrays.put(numpy.zeros((), arrays.dtype_of(x)))
    return arrays.where(mask, x, zero)


# Places


@operator("Gather", attributes=["axis"])
def gather(arrays: Adapter, given: Attributes, x: Array, indices: Array) -> Array:
    axis = given.get("axis", 0) % len(x.shape)
    return arrays.take(x, _from_start(arrays, indices, x.shape[axis]), axis)


def _from_start(arrays: Adapter, indices: Array, length: int) -> Array:
    """Indices may count from the end."""
    if isinstance(indices, numpy.ndarray):
        return numpy.where(indices < 0, indices + length, indices)
    return arrays.where(indices < 0, indices + length, indices)


@operator("GatherElements", attributes=["axis"])
def gather_elements(arrays: Adapter, given: Attributes, x: Array, indices: Array) -> Array:
    axis = given.get("axis", 0) % len(x.shape)
    return arrays.take_along(x, _from_start(arrays, indices, x.shape[axis]), axis)


@operator("GatherND", attributes=["batch_dims"])
def gather_places(arrays: Adapter, given: Attributes, x: Array, indices: Array) -> Array:
    if given.get("batch_dims"):
        raise NotCovered(f"batch_dims={given['batch_dims']}")
    return arrays.gather(x, _places(arrays, x, indices))


@operator("ScatterND", attributes=["reduction"])
def scatter_places(
    arrays: Adapter, given: Attributes, x: Array, indices: Array, values: Array
) -> Array:
    if given.get("reduction", "none") != "none":
        raise NotCovered(f"reduction={given['reduction']}")
    return arrays.scatter(x, _places(arrays, x, indices), values)


def _places(arrays: Adapter, x: Array, indices: Array) -> list[Array]:
    """The indices [..., N] as an array for each of the first N axes."""
    *outer, count = arrays.shape_of(indices)
    around = (slice(None),) * len(outer)
    columns = [
        arrays.reshape(arrays.slice(indices, (*around, slice(n, n + 1))), tuple(outer))
        for n in range(count)
    ]
    return [_from_start(arrays, column, x.shape[n]) for n, column in enumerate(columns)]
