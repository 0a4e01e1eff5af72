"""An exported graph as a list of steps that call the operator table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import onnx
from onnx import AttributeProto, NodeProto, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

# The modules that fill the operator table.
from profiling.runtimes.native import elementwise, products, rearranging  # noqa: F401
from profiling.runtimes.native.adapter import Adapter, Array
from profiling.runtimes.native.numpy_adapter import NumpyAdapter
from profiling.runtimes.native.operator_table import OPERATORS, NotCovered, Operator
from profiling.runtimes.runtime import RuntimeAbsent

_HOST = NumpyAdapter()
_OWN_DOMAINS = ("", "ai.onnx")
# Below it some operators take other inputs, and a softmax is over all axes from one on.
_OLDEST_OPSET = 13


class GraphRefused(RuntimeAbsent):
    """A graph that the operator table does not cover: one line with what and where."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A node whose values have numbers; 0 is the value that is not there."""

    name: str
    kind: str
    operator: Operator
    attributes: Mapping[str, Any]
    inputs: Sequence[int]
    outputs: Sequence[int]


@dataclass(kw_only=True)
class _Reading:
    """The values of a graph by name while it is read."""

    numbers: dict[str, int] = field(default_factory=lambda: {"": 0})
    constants: dict[int, Any] = field(default_factory=dict)

    def number(self, name: str) -> int:
        return self.numbers.setdefault(name, len(self.numbers))


class NativeGraph:
    """A graph over the arrays of a framework; weights in single precision are its parameters.

    Constants that depend on no input are computed here. What depends on the shapes of inputs alone
    is computed on the host whenever the graph runs, or once for each shape where it is compiled.
    """

    def __init__(self, path: Path, adapter: Adapter) -> None:
        self.path, self.adapter = path, adapter
        model = onnx.load(str(path), load_external_data=False)
        self._require_form(model)
        read = _Reading()
        self._read_constants(model, read)
        given = [
            value for value in model.graph.input if read.number(value.name) not in read.constants
        ]
        self.inputs = [value.name for value in given]
        self.outputs = [value.name for value in model.graph.output]
        kinds = {value.name: value.type.tensor_type for value in given}
        self.dtypes = {
            name: onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
            for name, kind in kinds.items()
        }
        self.ranks = {name: len(kind.shape.dim) for name, kind in kinds.items()}
        with numpy.errstate(all="ignore"):
            self._steps = self._fold(list(self._list_steps(model, read)), read)
        self._input_numbers = [read.number(name) for name in self.inputs]
        self._output_numbers = [read.number(name) for name in self.outputs]
        self._size = len(read.numbers)
        self._place(read)
        self._last_uses = self._find_last_uses()

    # Reading

    def _refuse(self, what: str) -> GraphRefused:
        return GraphRefused(f"{self.adapter.name} cannot run {self.path.name}: {what}")

    def _require_form(self, model: onnx.ModelProto) -> None:
        if model.functions:
            raise self._refuse("it has functions of its own")
        for opset in model.opset_import:
            if opset.domain in _OWN_DOMAINS and opset.version < _OLDEST_OPSET:
                raise self._refuse(f"opset {opset.version} is older than {_OLDEST_OPSET}")
        missing = {_kind_of(node) for node in model.graph.node} - OPERATORS.keys() - {"Constant"}
        if missing:
            raise self._refuse(f"the operator table lacks {', '.join(sorted(missing))}")
        for node in model.graph.node:
            self._require_covered(node)

    def _require_covered(self, node: NodeProto) -> None:
        known = OPERATORS.get(node.op_type)
        if known is None:
            return
        unknown = sorted({attribute.name for attribute in node.attribute} - known.attributes)
        named = len([name for name in node.output if name])
        if unknown:
            raise self._refuse(f"{_describe(node)} has the attribute {unknown[0]}")
        if known.outputs is not None and named > known.outputs:
            raise self._refuse(f"{_describe(node)} gives {named} outputs")

    def _read_constants(self, model: onnx.ModelProto, read: _Reading) -> None:
        if model.graph.sparse_initializer:
            raise self._refuse("it has sparse weights")
        for stored in model.graph.initializer:
            if uses_external_data(stored):
                load_external_data_for_tensor(stored, str(self.path.parent))
            read.constants[read.number(stored.name)] = numpy_helper.to_array(stored)
            # The array has a copy.
            stored.ClearField("raw_data")
        for node in model.graph.node:
            if node.op_type == "Constant":
                (attribute,) = node.attribute
                value = numpy.asarray(_read_attribute(attribute))
                read.constants[read.number(node.output[0])] = _as_stored(attribute, value)

    def _list_steps(self, model: onnx.ModelProto, read: _Reading) -> Iterator[Step]:
        for node in model.graph.node:
            if node.op_type == "Constant":
                continue
            yield Step(
                name=_describe(node),
                kind=node.op_type,
                operator=OPERATORS[node.op_type],
                attributes={a.name: _read_attribute(a) for a in node.attribute},
                inputs=[read.number(name) for name in node.input],
                outputs=[read.number(name) for name in node.output],
            )

    def _fold(self, steps: Sequence[Step], read: _Reading) -> list[Step]:
        """The steps that are left when those of constants alone have been computed."""
        left = []
        for step in steps:
            inputs = [number for number in step.inputs if number]
            if inputs and all(number in read.constants for number in inputs):
                given = [read.constants.get(number) for number in step.inputs]
                made = _tuple_of(self._compute(step, _HOST, given))
                read.constants.update(zip(step.outputs, map(numpy.asarray, made), strict=False))
            else:
                left.append(step)
        return left

    def _place(self, read: _Reading) -> None:
        """Weights become parameters on the device; what shapes are made of stays on the host."""
        used = {number for step in self._steps for number in step.inputs}
        used |= set(self._output_numbers)
        static = {
            step.inputs[place]
            for step in self._steps
            for place in step.operator.static
            if place < len(step.inputs)
        }
        self.parameters: dict[int, Array] = {}
        self._constants: dict[int, Any] = {}
        for number in sorted(used & read.constants.keys()):
            value = read.constants.pop(number)
            if value.dtype.kind == "f" and value.size > 1 and number not in static:
                self.parameters[number] = self.adapter.put(value)
            else:
                self._constants[number] = value
        self._uploaded: dict[int, Array] = {}

    def _find_last_uses(self) -> list[list[int]]:
        """The values that nothing needs after each step."""
        last: dict[int, int] = {}
        for place, step in enumerate(self._steps):
            last.update(dict.fromkeys(step.inputs, place))
        kept = {0, *self._output_numbers, *self.parameters, *self._constants}
        found: list[list[int]] = [[] for _ in self._steps]
        for number, place in last.items():
            if number not in kept:
                found[place].append(number)
        return found

    # Running

    def run(self, parameters: Mapping[int, Array], *given: Array) -> tuple[Array, ...]:
        """The outputs in order, as arrays of the framework."""
        # What is chosen among may hold values that are not numbers, as the logarithm of 0.
        with numpy.errstate(all="ignore"):
            return self._run(parameters, given)

    def _run(self, parameters: Mapping[int, Array], given: Sequence[Array]) -> tuple[Array, ...]:
        values: list[Any] = [None] * self._size
        for known in (self._constants, parameters):
            for number, value in known.items():
                values[number] = value
        for number, value in zip(self._input_numbers, given, strict=True):
            values[number] = value
        for step, unused in zip(self._steps, self._last_uses, strict=True):
            made = _tuple_of(self._run_step(step, values))
            for number, value in zip(step.outputs, made, strict=False):
                values[number] = value
            for number in unused:
                values[number] = None
        return tuple(self._on_device(number, values[number]) for number in self._output_numbers)

    def _run_step(self, step: Step, values: Sequence[Any]) -> Any:
        given = [values[number] for number in step.inputs]
        if all(value is None or isinstance(value, numpy.ndarray) for value in given):
            made = self._compute(step, _HOST, given)
            return made if isinstance(made, tuple) else numpy.asarray(made)
        for place, value in enumerate(given):
            if value is None:
                continue
            if place not in step.operator.static:
                given[place] = self._on_device(step.inputs[place], value)
            elif not isinstance(value, numpy.ndarray):
                given[place] = self._fetch(step, value)
        return self._compute(step, self.adapter, given)

    def _on_device(self, number: int, value: Any) -> Array:
        if not isinstance(value, numpy.ndarray) or self.adapter is _HOST:
            return value
        if number not in self._constants or not self.adapter.keeps_constants:
            return self.adapter.put(value)
        if number not in self._uploaded:
            self._uploaded[number] = self.adapter.put(value)
        return self._uploaded[number]

    @contextmanager
    def fresh_constants(self) -> Iterator[None]:
        """While a program is written, constants are put anew and belong to that program."""
        before, self._uploaded = self._uploaded, {}
        try:
            yield
        finally:
            self._uploaded = before

    def _fetch(self, step: Step, value: Array) -> Any:
        try:
            return self.adapter.fetch(value)
        except NotCovered as problem:
            raise self._refuse(f"{step.name}: {problem}") from None

    def _compute(self, step: Step, adapter: Adapter, given: Sequence[Any]) -> Any:
        try:
            return step.operator.compute(adapter, step.attributes, *given)
        except NotCovered as problem:
            raise self._refuse(f"{step.name} with {problem}") from None


def _kind_of(node: NodeProto) -> str:
    return node.op_type if node.domain in _OWN_DOMAINS else f"{node.domain}.{node.op_type}"


def _describe(node: NodeProto) -> str:
    return f"{_kind_of(node)} {node.name or node.output[0]}"


def _read_attribute(attribute: AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _as_stored(attribute: AttributeProto, value: Any) -> Any:
    """A constant in the dtype that its attribute stands for."""
    kinds = {"value_float": "float32", "value_floats": "float32"}
    return value.astype(kinds.get(attribute.name, value.dtype))


def _tuple_of(made: Any) -> tuple[Any, ...]:
    return made if isinstance(made, tuple) else (made,)
