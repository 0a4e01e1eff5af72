"""Operators that compute element by element."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy
import onnx

from profiling.runtimes.native.adapter import Adapter, Array
from profiling.runtimes.native.operator_table import Attributes, NotCovered, operator


def _is_whole(arrays: Adapter, x: Array) -> bool:
    return arrays.dtype_of(x).kind in "iu"


def _binary(name: str, compute: Any) -> None:
    operator(name)(lambda arrays, given, a, b: compute(a, b))


for _name, _compute in {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
    "Greater": lambda a, b: a > b,
    "GreaterOrEqual": lambda a, b: a >= b,
    "Equal": lambda a, b: a == b,
}.items():
    _binary(_name, _compute)


def _unary(name: str, function: str) -> None:
    operator(name)(lambda arrays, given, x: arrays.apply(function, x))


for _name, _function in {
    "Sqrt": "sqrt",
    "Exp": "exp",
    "Log": "log",
    "Sin": "sin",
    "Cos": "cos",
    "Tanh": "tanh",
    "Abs": "abs",
    "Sign": "sign",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "IsNaN": "isnan",
}.items():
    _unary(_name, _function)


def _logical(name: str, function: str) -> None:
    operator(name)(lambda arrays, given, *x: arrays.logical(function, *x))


for _name in ("And", "Or", "Xor", "Not"):
    _logical(_name, _name.lower())


@operator("Div")
def divide(arrays: Adapter, given: Attributes, a: Array, b: Array) -> Array:
    if not _is_whole(arrays, a):
        return a / b
    # Rounded towards zero, where frameworks round down.
    signs = arrays.apply("sign", a) * arrays.apply("sign", b)
    return arrays.apply("abs", a) // arrays.apply("abs", b) * signs


@operator("Mod", attributes=["fmod"])
def remainder(arrays: Adapter, given: Attributes, a: Array, b: Array) -> Array:
    if not given.get("fmod"):
        return a % b
    # The sign is that of what is divided.
    return arrays.apply("abs", a) % arrays.apply("abs", b) * arrays.apply("sign", a)


@operator("Pow")
def power(arrays: Adapter, given: Attributes, x: Array, exponent: Array) -> Array:
    kept = arrays.dtype_of(x)
    if arrays.dtype_of(exponent) != kept:
        exponent = arrays.cast(exponent, kept)
    return arrays.power(x, exponent)


@operator("Neg")
def negative(arrays: Adapter, given: Attributes, x: Array) -> Array:
    return -x


@operator("Reciprocal")
def reciprocal(arrays: Adapter, given: Attributes, x: Array) -> Array:
    return 1 / x


@operator("Sum")
def add_all(arrays: Adapter, given: Attributes, *given_arrays: Array) -> Array:
    return reduce(lambda a, b: a + b, given_arrays)


@operator("Max")
def largest(arrays: Adapter, given: Attributes, *given_arrays: Array) -> Array:
    return reduce(arrays.maximum, given_arrays)


@operator("Min")
def smallest(arrays: Adapter, given: Attributes, *given_arrays: Array) -> Array:
    return reduce(arrays.minimum, given_arrays)


@operator("Clip")
def clip(
    arrays: Adapter, given: Attributes, x: Array, low: Array = None, high: Array = None
) -> Array:
    x = x if low is None else arrays.maximum(x, low)
    return x if high is None else arrays.minimum(x, high)


@operator("Where")
def where(arrays: Adapter, given: Attributes, condition: Array, a: Array, b: Array) -> Array:
    return arrays.where(condition, a, b)


@operator("Cast", attributes=["to", "saturate", "round_mode"])
def cast(arrays: Adapter, given: Attributes, x: Array) -> Array:
    return arrays.cast(x, onnx.helper.tensor_dtype_to_np_dtype(given["to"]))


@operator("CastLike", attributes=["saturate", "round_mode"])
def cast_like(arrays: Adapter, given: Attributes, x: Array, like: Array) -> Array:
    return arrays.cast(x, arrays.dtype_of(like))


@operator("IsInf", attributes=["detect_negative", "detect_positive"])
def is_infinite(arrays: Adapter, given: Attributes, x: Array) -> Array:
    if not given.get("detect_negative", 1):
        x = arrays.maximum(x, _number(arrays, x, 0))
    if not given.get("detect_positive", 1):
        x = arrays.minimum(x, _number(arrays, x, 0))
    return arrays.apply("abs", x) == numpy.inf


def _number(arrays: Adapter, like: Array, value: float) -> Array:
    return arrays.put(numpy.asarray(value, arrays.dtype_of(like)))


# Activations


@operator("Erf")
def erf(arrays: Adapter, given: Attributes, x: Array) -> Array:
    return arrays.erf(x)


@operator("Sigmoid")
def sigmoid(arrays: Adapter, given: Attributes, x: Array) -> Array:
    return arrays.sigmoid(x)


@operator("Relu")
def relu(arrays: Adapter, given: Attributes, x: Array) -> Array:
    return arrays.maximum(x, _number(arrays, x, 0))


@operator("LeakyRelu", attributes=["alpha"])
def leaky_relu(arrays: Adapter, given: Attributes, x: Array) -> Array:
    return arrays.where(x >= 0, x, given.get("alpha", 0.01) * x)


@operator("Softplus")
def softplus(arrays: Adapter, given: Attributes, x: Array) -> Array:
    # The exponential of a large number would overflow.
    bounded = arrays.apply("exp", -arrays.apply("abs", x))
    return arrays.apply("log", 1 + bounded) + relu(arrays, given, x)


@operator("HardSigmoid", attributes=["alpha", "beta"])
def hard_sigmoid(arrays: Adapter, given: Attributes, x: Array) -> Array:
    raised = given.get("alpha", 0.2) * x + given.get("beta", 0.5)
    return clip(arrays, given, raised, _number(arrays, x, 0), _number(arrays, x, 1))


@operator("HardSwish")
def hard_swish(arrays: Adapter, given: Attributes, x: Array) -> Array:
    return x * hard_sigmoid(arrays, {"alpha": 1 / 6}, x)


@operator("Gelu", attributes=["approximate"])
def gelu(arrays: Adapter, given: Attributes, x: Array) -> Array:
    kind = given.get("approximate", "none")
    if kind not in ("none", "tanh"):
        raise NotCovered(f"approximate={kind}")
    return arrays.gelu(x, kind == "tanh")
