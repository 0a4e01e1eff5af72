"""MindSpore: operators that run one by one as they are called (pynative)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO
from typing import Any

import mindspore
import numpy
from mindspore import ops

from profiling.runtimes.native.adapter import Adapter, Array, Shape, Window
from profiling.runtimes.native.operator_table import NotCovered

_DTYPES = {
    name: getattr(mindspore, "bool_" if name == "bool" else name)
    for name in (
        "float64",
        "float32",
        "float16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
    )
}
_NAMES = {str(dtype): name for name, dtype in _DTYPES.items()}
_REDUCTIONS = {"mean": ops.mean, "sum": ops.sum, "max": ops.amax, "min": ops.amin}


def begin() -> None:
    """Let the first operator fail, which it does once under NumPy 2, and not print why."""
    with suppress(SystemError), redirect_stderr(StringIO()):
        mindspore.Tensor(numpy.ones((1, 2), numpy.float32)).reshape(2, 1)


class MindSporeAdapter(Adapter):
    """MindSpore's tensors on the processor, where some operators have no kernel."""

    name = "mindspore"
    xp = ops

    def put(self, array: Any) -> Array:
        # A tensor may share the memory of the array, which callers write into.
        return mindspore.Tensor(numpy.array(array))

    def fetch(self, array: Array) -> Any:
        return array.asnumpy()

    def dtype_of(self, x: Array) -> numpy.dtype[Any]:
        return numpy.dtype(_NAMES[str(x.dtype)])

    def cast(self, x: Array, dtype: numpy.dtype[Any]) -> Array:
        return ops.cast(x, _DTYPES[numpy.dtype(dtype).name])

    def erf(self, x: Array) -> Array:
        return ops.erf(x)

    def sigmoid(self, x: Array) -> Array:
        return ops.sigmoid(x)

    def power(self, x: Array, exponent: Array) -> Array:
        return ops.pow(x, exponent)

    def reduce(self, name: str, x: Array, axes: Shape, keep: bool) -> Array:
        if name == "prod":
            for axis in sorted(axes, reverse=True):
                x = ops.prod(x, axis, keep)
            return x
        y = _REDUCTIONS[name](x, axes, keep)
        return y if y.dtype == x.dtype else ops.cast(y, x.dtype)

    def softmax(self, x: Array, axis: int) -> Array:
        return ops.softmax(x, axis=axis)

    def cumulative_sum(self, x: Array, axis: int) -> Array:
        return ops.cumsum(x, axis)

    def sort_order(self, x: Array, axis: int, largest: bool) -> Array:
        return ops.cast(ops.topk(x, x.shape[axis], axis, largest)[1], mindspore.int64)

    def extreme(self, name: str, x: Array, axis: int) -> Array:
        # Its own smallest place takes other arguments.
        return ops.cast(ops.argmax(-x if name == "argmin" else x, axis), mindspore.int64)

    def convolve(self, x: Array, kernel: Array, window: Window) -> Array:
        count = len(window.strides)
        if _is_patches(x, kernel, window):
            return _product_of_patches(x, kernel)
        if count == 3:
            raise NotCovered("three axes, for which MindSpore has no kernel on the processor")
        widths = [(0, 0), (0, 0), *zip(window.before, window.behind, strict=True)]
        x = self.pad(x, widths, 0) if any(map(sum, widths)) else x
        return (ops.conv1d if count == 1 else ops.conv2d)(
            x,
            kernel,
            stride=window.strides if count > 1 else window.strides[0],
            pad_mode="valid",
            dilation=window.dilations if count > 1 else window.dilations[0],
            groups=window.groups,
        )

    def layer_norm(
        self, x: Array, scale: Array, shift: Array | None, axes: Shape, epsilon: float
    ) -> Array:
        # The function of that name has no kernel on the processor; the primitive has.
        primitive = ops.LayerNorm(axes[0], axes[0], epsilon)
        return primitive(x, scale, ops.zeros_like(scale) if shift is None else shift)[0]

    def gelu(self, x: Array, by_tanh: bool) -> Array:
        return ops.gelu(x, approximate="tanh" if by_tanh else "none")

    def concatenate(self, arrays: Sequence[Array], axis: int) -> Array:
        return ops.cat(list(arrays), axis)

    def pad(self, x: Array, widths: Sequence[tuple[int, int]], value: Any) -> Array:
        for axis, (before, behind) in enumerate(widths):
            parts = [_filled(x, axis, before, value), x, _filled(x, axis, behind, value)]
            held = [part for part in parts if part.shape[axis]]
            x = held[0] if len(held) == 1 else ops.cat(held, axis)
        return x

    def transpose(self, x: Array, order: Shape) -> Array:
        return ops.transpose(x, tuple(order))

    def take(self, x: Array, indices: Array, axis: int) -> Array:
        return ops.gather(x, indices, axis)

    def take_along(self, x: Array, indices: Array, axis: int) -> Array:
        return ops.gather_elements(x, axis, indices)

    def gather(self, x: Array, places: Sequence[Array]) -> Array:
        return ops.gather_nd(x, ops.stack(list(places), axis=-1))

    def scatter(self, x: Array, places: Sequence[Array], values: Array) -> Array:
        return ops.TensorScatterUpdate()(x, ops.stack(list(places), axis=-1), values)


def _filled(x: Array, axis: int, length: int, value: Any) -> Array:
    shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
    return mindspore.Tensor(numpy.full(shape, value, _NAMES[str(x.dtype)]))


def _is_patches(x: Array, kernel: Array, window: Window) -> bool:
    """Whether a kernel covers the whole of what it is moved over."""
    whole = tuple(x.shape[2:]) == tuple(kernel.shape[2:])
    return whole and window.groups == 1 and not any((*window.before, *window.behind))


def _product_of_patches(x: Array, kernel: Array) -> Array:
    y = ops.matmul(x.reshape(x.shape[0], -1), kernel.reshape(kernel.shape[0], -1).T)
    return y.reshape((*y.shape, *[1] * (len(kernel.shape) - 2)))
