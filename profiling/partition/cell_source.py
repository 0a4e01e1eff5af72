"""A graph of the operator table as the source of a MindSpore cell, which MindSpore compiles.

MindSpore exports a cell by compiling its source, in which it takes a part of Python only. So the
graph is run once on tensors that note what is done with them, and the notes are the source.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import mindspore
import numpy
from mindspore import ops

from profiling.runtimes.native import mindspore_adapter
from profiling.runtimes.native.adapter import Array, Shape
from profiling.runtimes.native.mindspore_adapter import MindSporeAdapter
from profiling.runtimes.native.native_graph import NativeGraph
from profiling.runtimes.native.operator_table import NotCovered

_NUMBERS = count()
_TEMPLATE = """import mindspore
from mindspore import ops


class Written(mindspore.nn.Cell):
    def __init__(self, held):
        super().__init__()
        for name, value in held.items():
            setattr(self, name, value)

    def construct(self, {inputs}):
        {lines}
        return ({outputs},)
"""


class Noted:
    """A tensor with the name that the source has for it."""

    # A number of NumPy on the left leaves an operation to this class.
    __array_ufunc__ = None

    def __init__(self, notes: Notes, tensor: Any, name: str) -> None:
        self.notes, self.tensor, self.name = notes, tensor, name

    @property
    def shape(self) -> Any:
        return self.tensor.shape

    @property
    def dtype(self) -> Any:
        return self.tensor.dtype

    @property
    def T(self) -> Noted:
        return self.notes.ops.transpose(self, (1, 0))  # type: ignore[no-any-return]

    def reshape(self, *shape: Any) -> Noted:
        given = shape[0] if isinstance(shape[0], tuple) else shape
        return self.notes.ops.reshape(self, tuple(given))  # type: ignore[no-any-return]

    def __getitem__(self, places: Any) -> Noted:
        written = ", ".join(map(_write_place, places if isinstance(places, tuple) else (places,)))
        made: Noted = self.notes.note(f"{self.name}[{written}]", self.tensor[places])
        return made

    def __neg__(self) -> Noted:
        made: Noted = self.notes.note(f"-{self.name}", -self.tensor)
        return made


def _operator(sign: str, compute: Callable[[Any, Any], Any], turned: bool) -> Any:
    def apply(self: Noted, other: Any) -> Any:
        one, two = (other, self) if turned else (self, other)
        written = f"{self.notes.write(one)} {sign} {self.notes.write(two)}"
        return self.notes.note(written, compute(bare(one), bare(two)))

    return apply


for _name, _sign, _compute in (
    ("add", "+", lambda a, b: a + b),
    ("sub", "-", lambda a, b: a - b),
    ("mul", "*", lambda a, b: a * b),
    ("truediv", "/", lambda a, b: a / b),
    ("floordiv", "//", lambda a, b: a // b),
    ("mod", "%", lambda a, b: a % b),
    ("pow", "**", lambda a, b: a**b),
):
    setattr(Noted, f"__{_name}__", _operator(_sign, _compute, False))
    setattr(Noted, f"__r{_name}__", _operator(_sign, _compute, True))
for _name, _sign, _compute in (
    ("lt", "<", lambda a, b: a < b),
    ("le", "<=", lambda a, b: a <= b),
    ("gt", ">", lambda a, b: a > b),
    ("ge", ">=", lambda a, b: a >= b),
    ("eq", "==", lambda a, b: a == b),
):
    setattr(Noted, f"__{_name}__", _operator(_sign, _compute, False))


def bare(value: Any) -> Any:
    """What MindSpore is given for a value that may hold noted tensors."""
    if isinstance(value, Noted):
        return value.tensor
    if isinstance(value, list | tuple):
        return type(value)(map(bare, value))
    return value


def _write_place(place: Any) -> str:
    if not isinstance(place, slice):
        return repr(place)
    ends = ["" if end is None else str(end) for end in (place.start, place.stop)]
    return ":".join(ends if place.step in (None, 1) else [*ends, str(place.step)])


class Notes:
    """The lines of a source, and the constants and primitives that they name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.held: dict[str, Any] = {}
        self.ops: Any = NotedOperators(self)

    def hold(self, prefix: str, value: Any) -> str:
        name = f"{prefix}{len(self.held)}"
        self.held[name] = value
        return f"self.{name}"

    def constant(self, tensor: Any) -> Noted:
        return Noted(self, tensor, self.hold("constant", tensor))

    def note(self, written: str, made: Any) -> Any:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {written}")
        if isinstance(made, tuple | list):
            return tuple(Noted(self, one, f"{name}[{place}]") for place, one in enumerate(made))
        return Noted(self, made, name)

    def write(self, value: Any) -> str:
        if isinstance(value, Noted):
            return value.name
        if isinstance(value, mindspore.Tensor):
            return self.hold("constant", value)
        if isinstance(value, list | tuple):
            inner = "".join(f"{self.write(one)}, " for one in value)
            return f"({inner})"
        if isinstance(value, numpy.generic):
            return repr(value.item())
        if isinstance(value, bool | int | float | str | None):
            return repr(value)
        # A dtype.
        return f"mindspore.{str(value).lower()}"


class NotedOperators:
    """The namespace of MindSpore's operators; a call of one is a line of the source."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        found = getattr(ops, name)
        if not isinstance(found, type):
            return self._noted(found, f"ops.{name}")

        def make(*settings: Any) -> Any:
            primitive = found(*settings)
            return self._noted(primitive, self._notes.hold("primitive", primitive))

        return make

    def _noted(self, function: Any, named: str) -> Callable[..., Any]:
        notes = self._notes

        def call(*given: Any, **settings: Any) -> Any:
            made = function(*bare(given), **{k: bare(v) for k, v in settings.items()})
            written = [
                *map(notes.write, given),
                *(f"{name}={notes.write(value)}" for name, value in settings.items()),
            ]
            return notes.note(f"{named}({', '.join(written)})", made)

        return call


class NotingAdapter(MindSporeAdapter):
    """MindSpore's adapter on noted tensors."""

    # Each program has constants of its own.
    keeps_constants = False

    def __init__(self) -> None:
        self.notes = Notes()
        self.xp = self.notes.ops

    def put(self, array: Any) -> Array:
        return self.notes.constant(super().put(array))

    def fetch(self, array: Array) -> Any:
        raise NotCovered("a shape depends on values, and a file has one shape")

    def reduce(self, name: str, x: Array, axes: Shape, keep: bool) -> Array:
        if name == "prod":
            return super().reduce(name, x, axes, keep)
        y = getattr(self.xp, {"max": "amax", "min": "amin"}.get(name, name))(x, axes, keep)
        return y if y.dtype == x.dtype else self.xp.cast(y, x.dtype)


@contextmanager
def _noting(notes: Notes) -> Iterator[None]:
    """Have the adapter's own functions call noted operators."""
    mindspore_adapter.ops = notes.ops
    try:
        yield
    finally:
        mindspore_adapter.ops = ops


def write_cell(graph: Path, given: Sequence[Any], read: Sequence[int], folder: Path) -> Any:
    """A cell that computes a graph for inputs of these shapes, `read` of which it takes."""
    adapter = NotingAdapter()
    notes = adapter.notes
    with _noting(notes):
        native = NativeGraph(graph, adapter)
        values = list(given)
        for place in read:
            tensor = mindspore.Tensor(given[place])
            values[place] = Noted(notes, tensor, f"x{place}")
        made = native.run(native.parameters, *values)
    source = _TEMPLATE.format(
        inputs=", ".join(f"x{place}" for place in read),
        lines="\n        ".join(notes.lines or ["pass"]),
        outputs=", ".join(one.name for one in made),
    )
    path = folder / f"written_{next(_NUMBERS)}.py"
    path.write_text(source, encoding="utf-8")
    return _load(path).Written(notes.held)


def _load(path: Path) -> Any:
    """The module of a source; MindSpore asks for it by its name when it compiles the cell."""
    described = importlib.util.spec_from_file_location(path.stem, path)
    assert described is not None and described.loader is not None
    module = importlib.util.module_from_spec(described)
    sys.modules[path.stem] = module
    described.loader.exec_module(module)
    return module
