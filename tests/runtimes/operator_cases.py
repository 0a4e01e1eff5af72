"""A small graph for each operator of the table, in several of its forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

Host = Any


@dataclass(frozen=True, kw_only=True)
class Case:
    """One node, what it is fed with, and which of its inputs are stored in the graph."""

    kind: str
    feeds: Sequence[Host | None]
    stored: Sequence[int] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 18

    @property
    def given(self) -> dict[str, Host]:
        """The inputs that are fed, by name."""
        return {
            f"x{place}": value
            for place, value in enumerate(self.feeds)
            if value is not None and place not in self.stored
        }

    def model(self) -> onnx.ModelProto:
        names = [f"x{n}" if value is not None else "" for n, value in enumerate(self.feeds)]
        outputs = [f"y{place}" for place in range(self.outputs)]
        node = helper.make_node(self.kind, names, outputs, name="only", **self.attributes)
        graph = helper.make_graph(
            [node],
            self.kind,
            [_open_value(name, value) for name, value in self.given.items()],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(self.feeds[n], f"x{n}") for n in self.stored],
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10
        )


def _open_value(name: str, value: Host) -> onnx.ValueInfoProto:
    """An input whose lengths are not known before it is fed."""
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    axes = [f"{name}_{axis}" for axis in range(value.ndim)]
    return helper.make_tensor_value_info(name, kind, axes)


def real(*shape: int, seed: int = 0, low: float = -3.0) -> Host:
    return numpy.random.default_rng(seed).uniform(low, 3.0, shape).astype(numpy.float32)


def whole(*values: int, shape: Sequence[int] = (-1,)) -> Host:
    return numpy.array(values, numpy.int64).reshape(shape)


def truth(*values: int) -> Host:
    return numpy.array(values, bool)


X, Y = real(2, 3, 4), real(2, 3, 4, seed=1)
SIGNED = whole(-7, 7, -8, 8, 5, -5)
STEPS = whole(2, -3, 3, -2, -4, 4)
ODD = numpy.array([numpy.nan, numpy.inf, -numpy.inf, 0.0, -1.5], numpy.float32)


def cases() -> list[Case]:
    """Every operator of the table, and what its attributes and optional inputs change."""
    return [*_elementwise(), *_products(), *_rearranging()]


def _case(kind: str, *feeds: Host | None, stored: Sequence[int] = (), **given: Any) -> Case:
    special = {name: given.pop(name) for name in ("outputs", "opset") if name in given}
    return Case(kind=kind, feeds=feeds, stored=stored, attributes=given, **special)


def _elementwise() -> list[Case]:
    plain = ["Sin", "Cos", "Tanh", "Abs", "Sign", "Floor", "Ceil", "Round", "Neg", "Erf"]
    plain += ["Exp", "Sigmoid", "Relu", "Softplus", "HardSwish"]
    positive = real(2, 5, low=0.1)
    return [
        *(_case(kind, X) for kind in plain),
        *(_case(kind, positive) for kind in ("Sqrt", "Log", "Reciprocal")),
        *(_case(kind, X, real(3, 1)) for kind in ("Add", "Sub", "Mul", "Div")),
        *(_case(kind, SIGNED, STEPS) for kind in ("Add", "Sub", "Mul", "Div", "Mod")),
        _case("Mod", SIGNED, STEPS, fmod=1),
        _case("Mod", real(6), real(6, seed=1), fmod=1),
        _case("Pow", positive, numpy.float32(2.5), stored=[1]),
        _case("Pow", X, numpy.float32(2.0), stored=[1]),
        _case("Pow", X, numpy.int64(3), stored=[1]),
        *(
            _case(kind, SIGNED, STEPS)
            for kind in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")
        ),
        _case("Less", X, Y),
        *(_case(kind, truth(0, 0, 1, 1), truth(0, 1, 0, 1)) for kind in ("And", "Or", "Xor")),
        _case("Not", truth(0, 1)),
        _case("IsNaN", ODD),
        _case("IsInf", ODD),
        _case("IsInf", ODD, detect_negative=0),
        _case("IsInf", ODD, detect_positive=0),
        _case("Sum", X, Y, real(4, seed=2)),
        _case("Max", X, Y, real(4, seed=2)),
        _case("Min", X, Y),
        _case("Max", SIGNED, STEPS),
        _case("Clip", X, numpy.float32(-1), numpy.float32(2), stored=[1, 2]),
        _case("Clip", X, None, numpy.float32(0.5), stored=[2]),
        _case("Clip", SIGNED, whole(0, shape=()), stored=[1]),
        _case("Where", truth(0, 1, 1, 0), X, Y),
        _case("Cast", X, to=TensorProto.INT64),
        _case("Cast", X, to=TensorProto.FLOAT16),
        _case("Cast", X, to=TensorProto.BOOL),
        _case("Cast", SIGNED, to=TensorProto.FLOAT),
        _case("Cast", truth(0, 1), to=TensorProto.FLOAT),
        _case("CastLike", SIGNED, X),
        _case("LeakyRelu", X, alpha=0.3),
        _case("HardSigmoid", X, alpha=0.3, beta=0.4),
        _case("Gelu", X, opset=20),
        _case("Gelu", X, approximate="tanh", opset=20),
    ]


def _products() -> list[Case]:
    picture = real(2, 4, 7, 6)
    return [
        _case("MatMul", X, real(2, 4, 5)),
        _case("MatMul", X, real(4, 5)),
        _case("MatMul", real(4), real(4, 5)),
        _case("Gemm", real(3, 4), real(4, 5), real(5)),
        _case("Gemm", real(4, 3), real(5, 4), real(1, 5), transA=1, transB=1, alpha=0.5, beta=2.0),
        _case("Gemm", real(3, 4), real(4, 5)),
        _case("Conv", picture, real(6, 4, 3, 2), real(6), stored=[1, 2]),
        _case("Conv", picture, real(6, 4, 2, 2), stored=[1], strides=[2, 2]),
        _case("Conv", picture, real(6, 4, 3, 3), pads=[1, 1, 1, 1], stored=[1]),
        _case("Conv", picture, real(8, 2, 3, 3), pads=[0, 1, 2, 1], group=2, stored=[1]),
        _case("Conv", picture, real(6, 4, 2, 2), dilations=[2, 3], stored=[1]),
        _case("Conv", real(2, 4, 9), real(6, 4, 3), stored=[1]),
        _case("Conv", real(5, 3, 2, 4, 4), real(6, 3, 2, 4, 4), strides=[2, 4, 4], stored=[1]),
        _case("Softmax", X),
        _case("Softmax", X * 100, axis=1),
        _case("LogSoftmax", X, axis=-2),
        _case("LayerNormalization", X, real(4), real(4), stored=[1, 2], epsilon=1e-3),
        _case("LayerNormalization", X, real(3, 4), axis=-2, stored=[1]),
        _case("RMSNormalization", X, real(4), stored=[1], epsilon=1e-3, opset=23),
        *(
            _case(kind, X, whole(1), stored=[1])
            for kind in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
        ),
        _case("ReduceSum", X, whole(-1, 0), stored=[1], keepdims=0),
        _case("ReduceMean", X, keepdims=0),
        _case("ReduceSum", SIGNED),
        _case("ReduceSum", X, noop_with_empty_axes=1),
        _case("ReduceMean", X, axes=[1], opset=17),
        _case("ReduceL2", X, whole(2), stored=[1]),
        _case("ReduceSumSquare", X, whole(2), stored=[1]),
        _case("ReduceLogSumExp", X * 50, whole(2), stored=[1], keepdims=0),
        _case("CumSum", X, whole(1, shape=()), stored=[1]),
        _case("CumSum", SIGNED, whole(0, shape=()), stored=[1], exclusive=1),
        _case("CumSum", X, whole(-1, shape=()), stored=[1], reverse=1),
        _case("CumSum", X, whole(-1, shape=()), stored=[1], reverse=1, exclusive=1),
        _case("TopK", X, whole(2), stored=[1], outputs=2),
        _case("TopK", X, whole(2), stored=[1], outputs=2, axis=1, largest=0),
        _case("ArgMax", X, axis=1),
        _case("ArgMin", X, axis=-1, keepdims=0),
    ]


def _rearranging() -> list[Case]:
    place = whole(0, 2, -1, 1, shape=(2, 2))
    return [
        _case("Identity", X),
        _case("Dropout", X),
        _case("Shape", X),
        _case("Shape", X, start=1, end=-1),
        _case("Size", X),
        _case("Range", *map(numpy.int64, (2, 11, 3)), stored=[0, 1, 2]),
        _case("Range", *map(numpy.float32, (5, 0.5, -1.5)), stored=[0, 1, 2]),
        _case("ConstantOfShape", whole(2, 3), stored=[0]),
        _case(
            "ConstantOfShape",
            whole(2),
            stored=[0],
            value=numpy_helper.from_array(numpy.array([7], numpy.int64)),
        ),
        _case("Reshape", X, whole(0, -1), stored=[1]),
        _case("Reshape", X, whole(4, 1, 6), stored=[1]),
        _case("Reshape", real(0, 3), whole(3, 0), stored=[1], allowzero=1),
        _case("Flatten", X, axis=2),
        _case("Flatten", X, axis=-2),
        _case("Flatten", X, axis=0),
        _case("Squeeze", real(2, 1, 3, 1), whole(1), stored=[1]),
        _case("Squeeze", real(2, 1, 3, 1)),
        _case("Unsqueeze", X, whole(0, -1), stored=[1]),
        _case("Transpose", X),
        _case("Transpose", X, perm=[1, 0, 2]),
        _case("Expand", real(3, 1), whole(2, 1, 4), stored=[1]),
        _case("Tile", X, whole(1, 2, 3), stored=[1]),
        _case("Concat", X, Y, real(2, 0, 4), axis=1),
        _case("Concat", X, Y, axis=-1),
        _case("Split", real(2, 7), axis=1, num_outputs=3, outputs=3),
        _case("Split", real(2, 7), whole(2, 5), stored=[1], axis=-1, outputs=2),
        _case("Slice", X, whole(1), whole(9223372036854775807), whole(2), stored=[1, 2, 3]),
        _case(
            "Slice", X, whole(-2, 0), whole(-1, 3), whole(1, 2), whole(1, 2), stored=[1, 2, 3, 4]
        ),
        _case(
            *("Slice", X, whole(-1), whole(-9223372036854775808), whole(2), whole(-1)),
            stored=[1, 2, 3, 4],
        ),
        _case("Slice", X, whole(2), whole(2), whole(1), stored=[1, 2, 3]),
        _case("Slice", X, whole(0, 0), whole(5, 2), stored=[1, 2]),
        _case("Pad", X, whole(0, 1, 0, 2, 0, 0), stored=[1]),
        _case("Pad", X, whole(1, 2), numpy.float32(-1), whole(1), stored=[1, 2, 3]),
        _case("Trilu", X),
        _case("Trilu", X, whole(1, shape=()), stored=[1], upper=0),
        _case("Gather", X, whole(1, 0, -1)),
        _case("Gather", X, whole(-1, shape=()), stored=[1], axis=-1),
        _case("Gather", X, place, axis=1),
        _case("GatherElements", real(3, 2), place, axis=0),
        _case("GatherND", X, whole(1, 2, 0, -1, shape=(2, 2))),
        _case("GatherND", X, whole(1, 2, 3, 0, 0, 1, shape=(2, 1, 3))),
        _case("ScatterND", X, whole(1, 2, 0, -1, shape=(2, 2)), real(2, 4, seed=3)),
    ]
