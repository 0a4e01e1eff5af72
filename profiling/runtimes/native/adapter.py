"""What the operator table asks of a framework: array operations under the names that NumPy has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

Array = Any
Shape = tuple[int, ...]
Host = Any  # an array of NumPy


@dataclass(frozen=True, kw_only=True)
class Window:
    """How a kernel moves over the axes behind the first two."""

    strides: Shape
    before: Shape  # zeros before and behind each axis
    behind: Shape
    dilations: Shape
    groups: int


class Adapter(ABC):
    """Array operations of a framework, written for a namespace with NumPy's names and arguments.

    Arguments that are no arrays (shapes, axes, slices) are plain numbers.
    """

    name: str
    xp: Any
    # Whether what was put on the device may be used by later calls.
    keeps_constants = True

    @abstractmethod
    def put(self, array: Host) -> Array:
        """A host array as one of the framework."""

    @abstractmethod
    def fetch(self, array: Array) -> Host:
        """An array of the framework as a host array, which may share its memory."""

    def dtype_of(self, x: Array) -> numpy.dtype[Any]:
        return numpy.dtype(x.dtype)

    def shape_of(self, x: Array) -> Shape:
        return tuple(map(int, x.shape))

    def cast(self, x: Array, dtype: numpy.dtype[Any]) -> Array:
        return x.astype(dtype)

    # Element by element

    def apply(self, name: str, x: Array) -> Array:
        """The function of that name in the namespace."""
        return getattr(self.xp, name)(x)

    @abstractmethod
    def erf(self, x: Array) -> Array: ...

    def sigmoid(self, x: Array) -> Array:
        # By the hyperbolic tangent, since the exponential of a large number overflows.
        return 0.5 * (self.apply("tanh", 0.5 * x) + 1)

    def power(self, x: Array, exponent: Array) -> Array:
        return x**exponent

    def maximum(self, a: Array, b: Array) -> Array:
        return self.xp.maximum(a, b)

    def minimum(self, a: Array, b: Array) -> Array:
        return self.xp.minimum(a, b)

    def logical(self, name: str, *given: Array) -> Array:
        """`and`, `or`, `xor` or `not`."""
        return getattr(self.xp, f"logical_{name}")(*given)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return self.xp.where(condition, a, b)

    # Along axes

    def reduce(self, name: str, x: Array, axes: Shape, keep: bool) -> Array:
        """`mean`, `sum`, `max`, `min` or `prod`."""
        return getattr(self.xp, name)(x, axis=axes, keepdims=keep)

    def softmax(self, x: Array, axis: int) -> Array:
        raised = self.apply("exp", x - self.reduce("max", x, (axis,), True))
        return raised / self.reduce("sum", raised, (axis,), True)

    def cumulative_sum(self, x: Array, axis: int) -> Array:
        return self.xp.cumsum(x, axis=axis, dtype=x.dtype)

    def sort_order(self, x: Array, axis: int, largest: bool) -> Array:
        """The places of values in order; of equal ones the first comes first."""
        return self.xp.argsort(-x if largest else x, axis=axis, stable=True)

    def extreme(self, name: str, x: Array, axis: int) -> Array:
        """`argmax` or `argmin`."""
        return getattr(self.xp, name)(x, axis=axis)

    # Products

    def matmul(self, a: Array, b: Array) -> Array:
        return self.xp.matmul(a, b)

    @abstractmethod
    def convolve(self, x: Array, kernel: Array, window: Window) -> Array: ...

    def layer_norm(
        self, x: Array, scale: Array, shift: Array | None, axes: Shape, epsilon: float
    ) -> Array:
        centred = x - self.reduce("mean", x, axes, True)
        variance = self.reduce("mean", centred * centred, axes, True)
        y = centred / self.apply("sqrt", variance + epsilon) * scale
        return y if shift is None else y + shift

    def gelu(self, x: Array, by_tanh: bool) -> Array:
        if by_tanh:
            inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)
            return 0.5 * x * (1 + self.apply("tanh", inner))
        return 0.5 * x * (1 + self.erf(0.7071067811865476 * x))

    # Shapes and places

    def reshape(self, x: Array, shape: Shape) -> Array:
        return self.xp.reshape(x, shape)

    def transpose(self, x: Array, order: Shape) -> Array:
        return self.xp.transpose(x, order)

    def expand(self, x: Array, shape: Shape) -> Array:
        return self.xp.broadcast_to(x, shape)

    def tile(self, x: Array, repeats: Shape) -> Array:
        return self.xp.tile(x, repeats)

    def concatenate(self, arrays: Sequence[Array], axis: int) -> Array:
        return self.xp.concatenate(arrays, axis=axis)

    def pad(self, x: Array, widths: Sequence[tuple[int, int]], value: Any) -> Array:
        return self.xp.pad(x, widths, constant_values=value)

    def slice(self, x: Array, places: tuple[slice, ...]) -> Array:
        return x[places]

    def take(self, x: Array, indices: Array, axis: int) -> Array:
        """Indices count from the start."""
        return self.xp.take(x, indices, axis=axis)

    def take_along(self, x: Array, indices: Array, axis: int) -> Array:
        return self.xp.take_along_axis(x, indices, axis=axis)

    def gather(self, x: Array, places: Sequence[Array]) -> Array:
        """The values at places that are given by an array for each of the first axes."""
        return x[tuple(places)]

    @abstractmethod
    def scatter(self, x: Array, places: Sequence[Array], values: Array) -> Array:
        """A copy with other values at places that are given as in `gather`."""
