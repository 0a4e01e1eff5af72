"""NumPy: the reference of the operator table, and what computes on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy
from numpy.lib.stride_tricks import sliding_window_view

from profiling.runtimes.native.adapter import Adapter, Array, Window


class NumpyAdapter(Adapter):
    """Arrays of the host."""

    name = "numpy"
    xp = numpy

    def put(self, array: Array) -> Array:
        return array

    def fetch(self, array: Array) -> Array:
        return numpy.asarray(array)

    def erf(self, x: Array) -> Array:
        # NumPy has no error function, so that of the standard library is called for every value.
        flat = numpy.ravel(x)
        return numpy.fromiter(map(math.erf, flat), x.dtype, flat.size).reshape(x.shape)

    def reduce(self, name: str, x: Array, axes: tuple[int, ...], keep: bool) -> Array:
        # NumPy would sum narrow integers in wider ones.
        wider = {"dtype": x.dtype} if name in ("sum", "prod") else {}
        return getattr(numpy, name)(x, axis=axes, keepdims=keep, **wider)

    def convolve(self, x: Array, kernel: Array, window: Window) -> Array:
        axes = tuple(range(2, x.ndim))
        widths = [(0, 0), (0, 0), *zip(window.before, window.behind, strict=True)]
        spread = [
            (size - 1) * step + 1
            for size, step in zip(kernel.shape[2:], window.dilations, strict=True)
        ]
        views = sliding_window_view(numpy.pad(x, widths), spread, axes)
        steps = tuple(slice(None, None, stride) for stride in window.strides)
        inside = tuple(slice(None, None, step) for step in window.dilations)
        views = views[(slice(None), slice(None), *steps, *inside)]
        parts = zip(
            numpy.split(views, window.groups, axis=1),
            numpy.split(kernel, window.groups, axis=0),
            strict=True,
        )
        return numpy.concatenate([_product(view, part) for view, part in parts], axis=1)

    def scatter(self, x: Array, places: Sequence[Array], values: Array) -> Array:
        changed = numpy.array(x)
        changed[tuple(places)] = values
        return changed


def _product(views: Any, kernel: Any) -> Any:
    """Windows [B, C, *places, *sizes] and kernels [O, C, *sizes] to [B, O, *places]."""
    inner = kernel.ndim - 2
    first = [1, *range(views.ndim - inner, views.ndim)]
    return numpy.moveaxis(numpy.tensordot(views, kernel, (first, range(1, kernel.ndim))), -1, 1)
