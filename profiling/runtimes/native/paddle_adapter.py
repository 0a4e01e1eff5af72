"""PaddlePaddle: operators that run one by one as they are called (dygraph)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import paddle
from paddle.nn import functional

from profiling.runtimes.native.adapter import Adapter, Array, Shape, Window

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


class PaddleAdapter(Adapter):
    """Paddle's tensors, which have other names for axes and shapes."""

    name = "paddle"
    xp = paddle

    def put(self, array: Any) -> Array:
        return paddle.to_tensor(array)

    def fetch(self, array: Array) -> Any:
        return array.numpy()

    def dtype_of(self, x: Array) -> numpy.dtype[Any]:
        # As `paddle.float32`, and while a program is written as `DataType.FLOAT32`.
        return numpy.dtype(str(x.dtype).rpartition(".")[2].lower())

    def cast(self, x: Array, dtype: numpy.dtype[Any]) -> Array:
        return paddle.cast(x, numpy.dtype(dtype).name)

    def apply(self, name: str, x: Array) -> Array:
        # Its own rounding is away from zero.
        return _round_to_even(x) if name == "round" else getattr(paddle, name)(x)

    def erf(self, x: Array) -> Array:
        return paddle.erf(x)

    def sigmoid(self, x: Array) -> Array:
        return functional.sigmoid(x)

    def power(self, x: Array, exponent: Array) -> Array:
        return paddle.pow(x, exponent)

    def reduce(self, name: str, x: Array, axes: Shape, keep: bool) -> Array:
        y = getattr(paddle, name)(x, axis=list(axes), keepdim=keep)
        return y if y.dtype == x.dtype else paddle.cast(y, x.dtype)

    def softmax(self, x: Array, axis: int) -> Array:
        return functional.softmax(x, axis)

    def cumulative_sum(self, x: Array, axis: int) -> Array:
        return paddle.cumsum(x, axis=axis)

    def sort_order(self, x: Array, axis: int, largest: bool) -> Array:
        return paddle.argsort(x, axis=axis, descending=largest, stable=True)

    def convolve(self, x: Array, kernel: Array, window: Window) -> Array:
        count = len(window.strides)
        if window.before != window.behind:
            widths = [(0, 0), (0, 0), *zip(window.before, window.behind, strict=True)]
            x = self.pad(x, widths, 0)
        padding = list(window.before) if window.before == window.behind else 0
        return _CONVOLUTIONS[count](
            x,
            kernel,
            stride=list(window.strides),
            padding=padding,
            dilation=list(window.dilations),
            groups=window.groups,
        )

    def layer_norm(
        self, x: Array, scale: Array, shift: Array | None, axes: Shape, epsilon: float
    ) -> Array:
        if len(axes) > 1:  # Its own takes a scale of one axis only.
            return super().layer_norm(x, scale, shift, axes, epsilon)
        return functional.layer_norm(x, x.shape[-1:], scale, shift, epsilon)

    def gelu(self, x: Array, by_tanh: bool) -> Array:
        return functional.gelu(x, approximate=by_tanh)

    def reshape(self, x: Array, shape: Shape) -> Array:
        return paddle.reshape(x, list(shape))

    def transpose(self, x: Array, order: Shape) -> Array:
        return paddle.transpose(x, list(order))

    def expand(self, x: Array, shape: Shape) -> Array:
        return paddle.expand(x, list(shape))

    def tile(self, x: Array, repeats: Shape) -> Array:
        return paddle.tile(x, list(repeats))

    def concatenate(self, arrays: Sequence[Array], axis: int) -> Array:
        return paddle.concat(list(arrays), axis)

    def pad(self, x: Array, widths: Sequence[tuple[int, int]], value: Any) -> Array:
        flat = [width for pair in widths for width in pair]
        return functional.pad(x, flat, value=value, pad_from_left_axis=True)

    def take(self, x: Array, indices: Array, axis: int) -> Array:
        taken = paddle.index_select(x, paddle.reshape(indices, [-1]), axis)
        shape = [*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]]
        return paddle.reshape(taken, shape)

    def take_along(self, x: Array, indices: Array, axis: int) -> Array:
        return paddle.take_along_axis(x, indices, axis, broadcast=False)

    def gather(self, x: Array, places: Sequence[Array]) -> Array:
        return paddle.gather_nd(x, paddle.stack(list(places), axis=-1))

    def scatter(self, x: Array, places: Sequence[Array], values: Array) -> Array:
        return paddle.index_put(x, tuple(places), values)


def _round_to_even(x: Array) -> Array:
    below = paddle.floor(x)
    rest, is_odd = x - below, paddle.remainder(below, paddle.full([], 2, x.dtype)) == 1
    up = paddle.logical_or(rest > 0.5, paddle.logical_and(rest == 0.5, is_odd))
    return below + paddle.cast(up, x.dtype)
