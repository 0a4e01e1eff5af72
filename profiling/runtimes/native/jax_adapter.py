"""JAX: functions that are traced and compiled by XLA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy

from profiling.runtimes.native.adapter import Adapter, Array, Window
from profiling.runtimes.native.operator_table import NotCovered


class JaxAdapter(Adapter):
    """Whole numbers have 32 bits unless JAX is told otherwise."""

    name = "jax"
    xp = jnp
    # What is made while a function is traced belongs to that trace.
    keeps_constants = False

    def put(self, array: Any) -> Array:
        return jnp.asarray(array)

    def fetch(self, array: Array) -> Any:
        if isinstance(array, jax.core.Tracer):
            raise NotCovered("a shape depends on values, and compiled code has one shape")
        return numpy.asarray(array)

    def cast(self, x: Array, dtype: numpy.dtype[Any]) -> Array:
        return x.astype(jax.dtypes.canonicalize_dtype(dtype))

    def erf(self, x: Array) -> Array:
        return jax.scipy.special.erf(x)

    def sigmoid(self, x: Array) -> Array:
        return jax.nn.sigmoid(x)

    def softmax(self, x: Array, axis: int) -> Array:
        return jax.nn.softmax(x, axis)

    def convolve(self, x: Array, kernel: Array, window: Window) -> Array:
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            window.strides,
            list(zip(window.before, window.behind, strict=True)),
            rhs_dilation=window.dilations,
            feature_group_count=window.groups,
        )

    def scatter(self, x: Array, places: Sequence[Array], values: Array) -> Array:
        return x.at[tuple(places)].set(values)
