"""Operators that reduce along axes: products, norms, sums and orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from profiling.runtimes.native.adapter import Adapter, Array, Window
from profiling.runtimes.native.operator_table import (
    Attributes,
    NotCovered,
    operator,
    whole_numbers,
)


def behind(axis: int, rank: int) -> tuple[int, ...]:
    """The axes from this one on."""
    return tuple(range(axis % rank, rank))


@operator("MatMul")
def multiply(arrays: Adapter, given: Attributes, a: Array, b: Array) -> Array:
    return arrays.matmul(a, b)


@operator("Gemm", attributes=["alpha", "beta", "transA", "transB"])
def linear(
    arrays: Adapter, given: Attributes, a: Array, b: Array, shift: Array | None = None
) -> Array:
    a = arrays.transpose(a, (1, 0)) if given.get("transA") else a
    b = arrays.transpose(b, (1, 0)) if given.get("transB") else b
    y = arrays.matmul(a, b)
    alpha, beta = given.get("alpha", 1.0), given.get("beta", 1.0)
    y = y if alpha == 1 else alpha * y
    if shift is None:
        return y
    return y + (shift if beta == 1 else beta * shift)


@operator("Conv", attributes=["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])
def convolve(
    arrays: Adapter, given: Attributes, x: Array, kernel: Array, shift: Array | None = None
) -> Array:
    if given.get("auto_pad", "NOTSET") != "NOTSET":
        raise NotCovered(f"auto_pad={given['auto_pad']}")
    count = len(kernel.shape) - 2
    pads = tuple(given.get("pads", [0] * 2 * count))
    window = Window(
        strides=tuple(given.get("strides", [1] * count)),
        before=pads[:count],
        behind=pads[count:],
        dilations=tuple(given.get("dilations", [1] * count)),
        groups=given.get("group", 1),
    )
    y = arrays.convolve(x, kernel, window)
    return y if shift is None else y + arrays.reshape(shift, (1, -1, *[1] * count))


@operator("Softmax", attributes=["axis"])
def softmax(arrays: Adapter, given: Attributes, x: Array) -> Array:
    return arrays.softmax(x, given.get("axis", -1) % len(x.shape))


@operator("LogSoftmax", attributes=["axis"])
def log_softmax(arrays: Adapter, given: Attributes, x: Array) -> Array:
    axis = given.get("axis", -1) % len(x.shape)
    lowered = x - arrays.reduce("max", x, (axis,), True)
    total = arrays.reduce("sum", arrays.apply("exp", lowered), (axis,), True)
    return lowered - arrays.apply("log", total)


@operator("LayerNormalization", attributes=["axis", "epsilon", "stash_type"])
def layer_norm(
    arrays: Adapter, given: Attributes, x: Array, scale: Array, shift: Array | None = None
) -> Array:
    axes = behind(given.get("axis", -1), len(x.shape))
    return arrays.layer_norm(x, scale, shift, axes, given.get("epsilon", 1e-5))


@operator("RMSNormalization", attributes=["axis", "epsilon", "stash_type"])
def rms_norm(arrays: Adapter, given: Attributes, x: Array, scale: Array) -> Array:
    axes = behind(given.get("axis", -1), len(x.shape))
    squares = arrays.reduce("mean", x * x, axes, True)
    return x / arrays.apply("sqrt", squares + given.get("epsilon", 1e-5)) * scale


Along = Callable[[Adapter, Array, tuple[int, ...], bool], Array]


def _root_of_squares(arrays: Adapter, x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return arrays.apply("sqrt", arrays.reduce("sum", x * x, axes, keep))


def _log_of_exponentials(arrays: Adapter, x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    most = arrays.reduce("max", x, axes, True)
    total = arrays.reduce("sum", arrays.apply("exp", x - most), axes, True)
    y = arrays.apply("log", total) + most
    return y if keep else arrays.reduce("max", y, axes, False)


def _reduce(name: str, along: Along) -> None:
    @operator(name, attributes=["axes", "keepdims", "noop_with_empty_axes"], static=[1])
    def compute(arrays: Adapter, given: Attributes, x: Array, axes: Any = None) -> Array:
        rank, chosen = len(x.shape), given.get("axes") if axes is None else whole_numbers(axes)
        if not chosen:
            if given.get("noop_with_empty_axes"):
                return x
            chosen = range(rank)
        places = tuple(sorted(axis % rank for axis in chosen))
        return along(arrays, x, places, bool(given.get("keepdims", 1)))


def _plain(name: str) -> Along:
    return lambda arrays, x, axes, keep: arrays.reduce(name, x, axes, keep)


for _name, _along in {
    "ReduceMean": _plain("mean"),
    "ReduceSum": _plain("sum"),
    "ReduceMax": _plain("max"),
    "ReduceMin": _plain("min"),
    "ReduceProd": _plain("prod"),
    "ReduceSumSquare": lambda arrays, x, axes, keep: arrays.reduce("sum", x * x, axes, keep),
    "ReduceL2": _root_of_squares,
    "ReduceLogSumExp": _log_of_exponentials,
}.items():
    _reduce(_name, _along)


@operator("CumSum", attributes=["exclusive", "reverse"], static=[1])
def cumulative_sum(arrays: Adapter, given: Attributes, x: Array, axis: Any) -> Array:
    (place,) = whole_numbers(axis)
    place %= len(x.shape)
    if given.get("reverse"):
        x = _reversed(arrays, x, place)
    y = arrays.cumulative_sum(x, place)
    y = y - x if given.get("exclusive") else y
    return _reversed(arrays, y, place) if given.get("reverse") else y


def _reversed(arrays: Adapter, x: Array, axis: int) -> Array:
    order = numpy.arange(x.shape[axis])[::-1].copy()
    return arrays.take(x, arrays.put(order), axis)


@operator("TopK", attributes=["axis", "largest", "sorted"], static=[1], outputs=2)
def top(arrays: Adapter, given: Attributes, x: Array, count: Any) -> tuple[Array, Array]:
    axis, (wanted,) = given.get("axis", -1) % len(x.shape), whole_numbers(count)
    order = arrays.sort_order(x, axis, bool(given.get("largest", 1)))
    order = arrays.slice(order, (*[slice(None)] * axis, slice(wanted)))
    return arrays.take_along(x, order, axis), order


def _extreme(name: str, function: str) -> None:
    @operator(name, attributes=["axis", "keepdims", "select_last_index"])
    def compute(arrays: Adapter, given: Attributes, x: Array) -> Array:
        if given.get("select_last_index"):
            raise NotCovered("select_last_index=1")
        axis = given.get("axis", 0) % len(x.shape)
        y = arrays.extreme(function, x, axis)
        if not given.get("keepdims", 1):
            return y
        shape = arrays.shape_of(x)
        return arrays.reshape(y, (*shape[:axis], 1, *shape[axis + 1 :]))


_extreme("ArgMax", "argmax")
_extreme("ArgMin", "argmin")
