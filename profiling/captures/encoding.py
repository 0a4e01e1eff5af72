"""Values that modules are called with, as JSON in which a tensor is its digest, and back.

Plain values stand for themselves; everything else is an object with one telling key:

    {"tensor": digest, "shape", "dtype", "strides", "offset"}   the last two where
                                                it lies otherwise than a new one
    {"again": number}                               the same object as the tensor of this number
    {"tuple": [...]}, {"list": [...]}, {"dict": {...}}, {"pairs": [[key, value], ...]}
    {"named": class, "parts": {...}}                a tuple whose parts have names
    {"output": class, "fields": {...}}              an output of the library
    {"cache": class, "state": {...}}                a cache; {"layer": class, ...} inside of it
    {"float": "nan"}, {"dtype": name}, {"device": name}, {"size": [...]}
    {"opaque": class}                               a value that was not stored

Decoding makes plain values, tensors, tuples with the names that are said, and objects of the
library's own output and cache classes, found by name among the classes that are loaded; nothing
else is ever made or called.
"""

from __future__ import annotations

import json
import keyword
import math
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import cache_utils
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.utils import ModelOutput

from profiling.captures.tensor_files import (
    ALIGNMENT_BYTES,
    LARGEST_SPREAD,
    can_be_stored,
    laid_out,
    offset_of,
    overlaps,
    spread_of,
)

_PLAIN = (bool, int, str, type(None))
_LAYERS_TO_COME = "layer_class_to_replicate"
_MOST_NAMES = 256


# JSON without what is not ASCII, so that any text can be written.
quoted = json.encoder.encode_basestring_ascii
_TRUTHS = {None: "null", True: "true", False: "false"}


class Malformed(ValueError):
    """What cannot be a captured value, in a few words."""


@dataclass(frozen=True)
class Opaque:
    """A value that was not stored; its class is all that is known."""

    kind: str


# What a dictionary may have as a key.
_KEYS = (*_PLAIN, float, tuple, torch.dtype, torch.device, Opaque)


class Fields(dict[str, Any]):
    """An output whose class is not loaded: its fields by name and by position."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def __getitem__(self, key: Any) -> Any:
        by_position = isinstance(key, int | slice)
        return list(self.values())[key] if by_position else super().__getitem__(key)


@dataclass(kw_only=True)
class Encoder:
    """Encodes values as JSON text: objects to be written later would cost as much again."""

    add: Callable[[Tensor], str]
    opaque: Callable[[str], None]
    # The tensors of the values that belong together, numbered as they come: some modules do
    # something else where two arguments are one object.
    _objects: dict[int, int] = field(default_factory=dict)

    def begin(self) -> None:
        """What comes next belongs together, and not with what was before."""
        self._objects = {}

    def encode(self, value: Any, layer: int | None) -> str:
        """The value's text; `layer` is the part of a cache that matters, None for all of it."""
        kind: Any = type(value)
        return _method_for(kind)(self, value, layer)

    def _truth(self, value: bool | None, layer: int | None) -> str:
        return _TRUTHS[value]

    def _whole(self, value: int, layer: int | None) -> str:
        return int.__repr__(value)

    def _text(self, value: str, layer: int | None) -> str:
        return quoted(value)

    def _float(self, value: float, layer: int | None) -> str:
        # JSON has no number that is not finite.
        return float.__repr__(value) if math.isfinite(value) else f'{{"float": "{float(value)!r}"}}'

    def _tuple(self, value: tuple[Any, ...], layer: int | None) -> str:
        names = _names_of(type(value))
        if names is None or len(names) != len(value):
            return f'{{"tuple": {self.listed(value, layer)}}}'
        parts = self.named(dict(zip(names, value, strict=True)), layer)
        return f'{{"named": {quoted(type(value).__name__)}, "parts": {parts}}}'

    def _list(self, value: list[Any], layer: int | None) -> str:
        return f'{{"list": {self.listed(value, layer)}}}'

    def listed(self, parts: Iterable[Any], layer: int | None) -> str:
        return f"[{', '.join([self.encode(part, layer) for part in parts])}]"

    def _size(self, value: torch.Size, layer: int | None) -> str:
        return f'{{"size": {list(value)}}}'

    def _dtype(self, value: torch.dtype, layer: int | None) -> str:
        return f'{{"dtype": "{dtype_name(value)}"}}'

    def _device(self, value: torch.device, layer: int | None) -> str:
        return f'{{"device": "{value}"}}'

    def _opaque(self, value: Any, layer: int | None) -> str:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        self.opaque(kind)
        return f'{{"opaque": {quoted(kind)}}}'

    def _tensor(self, tensor: Tensor, layer: int | None) -> str:
        again = self._objects.get(id(tensor))
        if again is not None:
            return f'{{"again": {again}}}'
        if not can_be_stored(tensor):
            return self._opaque(tensor, layer)
        self._objects[id(tensor)] = len(self._objects)
        shape = list(tensor.shape)
        dtype = dtype_name(tensor.dtype)
        told = f'"tensor": "{self.add(tensor)}", "shape": {shape}, "dtype": "{dtype}"'
        offset = offset_of(tensor)
        if (not offset and tensor.is_contiguous()) or not tensor.numel():
            return f"{{{told}}}"
        strides = tensor.stride()
        if spread_of(shape, strides) > LARGEST_SPREAD or overlaps(shape, strides):
            self.opaque("strides that cannot be restored")
            return f"{{{told}}}"
        return f'{{{told}, "strides": {list(strides)}, "offset": {offset}}}'

    def _mapping(self, value: Mapping[Any, Any], layer: int | None) -> str:
        if all(isinstance(name, str) for name in value):
            return f'{{"dict": {self.named(value, layer)}}}'
        pairs = [f"[{self.encode(n, None)}, {self.encode(v, layer)}]" for n, v in value.items()]
        return f'{{"pairs": [{", ".join(pairs)}]}}'

    def _output(self, value: ModelOutput, layer: int | None) -> str:
        kind = quoted(type(value).__name__)
        return f'{{"output": {kind}, "fields": {self.named(value, layer)}}}'

    def named(self, parts: Mapping[str, Any], layer: int | None) -> str:
        return object_of({name: self.encode(part, layer) for name, part in parts.items()})

    def _cache(self, value: Cache, layer: int | None) -> str:
        state = {}
        for name, part in vars(value).items():
            if name == "layers":
                listed = [self._layer(p, layer in (None, i)) for i, p in enumerate(part)]
                state[name] = f'{{"list": [{", ".join(listed)}]}}'
            elif name != _LAYERS_TO_COME:
                state[name] = self.encode(part, layer)
        grows_by = getattr(value, _LAYERS_TO_COME, None)
        named = quoted(grows_by.__name__) if grows_by else "null"
        kind = quoted(type(value).__name__)
        return f'{{"cache": {kind}, "state": {object_of(state)}, "grows_by": {named}}}'

    def _layer(self, value: Any, whole: bool) -> str:
        state = {
            name: self.encode(part, None)
            for name, part in vars(value).items()
            if whole or not isinstance(part, Tensor)
        }
        kind = quoted(type(value).__name__)
        return f'{{"layer": {kind}, "state": {object_of(state)}, "whole": {_TRUTHS[whole]}}}'


def object_of(texts: Mapping[str, str]) -> str:
    return f"{{{', '.join([f'{quoted(name)}: {text}' for name, text in texts.items()])}}}"


_METHODS: Sequence[tuple[tuple[type, ...], Any]] = (
    ((bool, type(None)), Encoder._truth),
    ((int,), Encoder._whole),
    ((str,), Encoder._text),
    ((float,), Encoder._float),
    ((Tensor,), Encoder._tensor),
    ((torch.Size,), Encoder._size),
    ((tuple,), Encoder._tuple),
    ((list,), Encoder._list),
    ((Cache,), Encoder._cache),
    ((ModelOutput,), Encoder._output),
    ((Mapping,), Encoder._mapping),
    ((torch.dtype,), Encoder._dtype),
    ((torch.device,), Encoder._device),
    ((object,), Encoder._opaque),
)


@cache
def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@cache
def _names_of(kind: type) -> tuple[str, ...] | None:
    """The names of a named tuple's parts, or of those that an operator of torch returns."""
    names = getattr(kind, "_fields", None)
    if names is None and hasattr(kind, "n_sequence_fields"):
        names = getattr(kind, "__match_args__", None)
    return names if isinstance(names, tuple) and _can_be_made(kind.__name__, names) else None


def _can_be_made(name: str, names: Iterable[Any]) -> bool:
    """Whether a class of named tuples can have these names."""
    told = list(names)
    plain = all(isinstance(one, str) and one.isidentifier() for one in [name, *told])
    return (
        plain
        and not any(keyword.iskeyword(one) for one in [name, *told])
        and not any(one.startswith("_") for one in told)
        and len(set(told)) == len(told) <= _MOST_NAMES
    )


@cache
def _named_tuple(name: str, names: tuple[str, ...]) -> Any:
    return namedtuple(name, names)


@cache
def _method_for(kind: Any) -> Callable[[Encoder, Any, int | None], str]:
    return next(method for kinds, method in _METHODS if issubclass(kind, kinds))


@dataclass(kw_only=True)
class Decoder:
    """The inverse, with tensors from `read` on `device`, floating-point ones as `floats` says.

    One decoder decodes what belongs together.
    """

    read: Callable[[str], Tensor]
    device: str
    floats: torch.dtype | None
    _objects: list[Tensor] = field(default_factory=list)

    def decode(self, value: Any) -> Any:
        if isinstance(value, (float, *_PLAIN)):
            return value
        if not isinstance(value, dict):
            raise Malformed("a list without a kind")
        for key, decode in _KINDS.items():
            if key in value:
                return decode(self, value)
        raise Malformed(f"a value of no known kind: {', '.join(map(str, value))[:60]}")

    def _tensor(self, told: dict[str, Any]) -> Tensor:
        self._objects.append(self._make(told))
        return self._objects[-1]

    def _again(self, told: dict[str, Any]) -> Tensor:
        number = told["again"]
        if type(number) is not int or not 0 <= number < len(self._objects):
            raise Malformed("a tensor again that was not there before")
        return self._objects[number]

    def _make(self, told: dict[str, Any]) -> Tensor:
        tensor = self.read(_text(told["tensor"])).to(self.device)
        if list(tensor.shape) != told.get("shape") or dtype_name(tensor.dtype) != told.get("dtype"):
            raise Malformed(f"the tensor {told['tensor']} has another shape or dtype than is said")
        if self.floats is not None and tensor.is_floating_point():
            tensor = tensor.to(self.floats)
        strides, offset = told.get("strides"), told.get("offset")
        if strides is None:
            # A copy, since modules may write into what they are given.
            return tensor.clone()
        _check_strides(tensor, strides)
        if type(offset) is not int or not 0 <= offset < ALIGNMENT_BYTES:
            raise Malformed("an offset that cannot be one")
        return laid_out(tensor, strides, offset)

    def _dtype(self, text: Any) -> torch.dtype:
        found = getattr(torch, _text(text), None)
        if not isinstance(found, torch.dtype):
            raise Malformed(f"no dtype is called {text[:40]}")
        return self.floats if self.floats and found.is_floating_point else found

    def _listed(self, told: Any) -> list[Any]:
        if not isinstance(told, list):
            raise Malformed("parts that are no list")
        return [self.decode(part) for part in told]

    def _mapped(self, told: Any) -> dict[str, Any]:
        if not isinstance(told, dict):
            raise Malformed("fields that are no object")
        return {name: self.decode(part) for name, part in told.items()}

    def _pairs(self, told: Any) -> dict[Any, Any]:
        if not isinstance(told, list) or not all(isinstance(p, list) and len(p) == 2 for p in told):
            raise Malformed("pairs that are none")
        keys = [self.decode(key) for key, _ in told]
        if not all(isinstance(key, _KEYS) for key in keys):
            raise Malformed("a key that cannot be one")
        return dict(zip(keys, (self.decode(part) for _, part in told), strict=True))

    def _named(self, told: dict[str, Any]) -> Any:
        name, parts = _text(told["named"]), self._mapped(told.get("parts"))
        if not _can_be_made(name, parts):
            raise Malformed("names that a tuple cannot have")
        return _named_tuple(name, tuple(parts))(**parts)

    def _output(self, told: dict[str, Any]) -> Any:
        parts = self._mapped(told.get("fields"))
        kind = _output_classes().get(_text(told["output"]))
        known = kind is not None and is_dataclass(kind) and {f.name for f in fields(kind)}
        return kind(**parts) if kind and known and parts.keys() <= known else Fields(parts)

    def _cache(self, told: dict[str, Any]) -> Any:
        kind = _class_of(told["cache"], Cache)
        made = _set_state(kind.__new__(kind), self._mapped(told.get("state")))
        grows_by = told.get("grows_by")
        class_to_come = None if grows_by is None else _class_of(grows_by, CacheLayerMixin)
        vars(made)[_LAYERS_TO_COME] = class_to_come
        _require_parts(made)
        return made

    def _layer(self, told: dict[str, Any]) -> Any:
        kind = _class_of(told["layer"], CacheLayerMixin)
        made = kind.__new__(kind)
        CacheLayerMixin.__init__(made)
        state = self._mapped(told.get("state"))
        if told.get("whole") is False:
            state["is_initialized"] = False
        return _set_state(made, state)


_KINDS: dict[str, Callable[[Decoder, dict[str, Any]], Any]] = {
    "tensor": Decoder._tensor,
    "again": Decoder._again,
    "tuple": lambda d, told: tuple(d._listed(told["tuple"])),
    "named": Decoder._named,
    "list": lambda d, told: d._listed(told["list"]),
    "dict": lambda d, told: d._mapped(told["dict"]),
    "pairs": lambda d, told: d._pairs(told["pairs"]),
    "output": Decoder._output,
    "cache": Decoder._cache,
    "layer": Decoder._layer,
    "float": lambda _, told: _read_float(told["float"]),
    "dtype": lambda d, told: d._dtype(told["dtype"]),
    "device": lambda d, _: torch.device(d.device),
    "size": lambda d, told: torch.Size(d._listed(told["size"])),
    "opaque": lambda _, told: Opaque(_text(told["opaque"])),
}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Malformed("a name that is no text")
    return value


def _read_float(text: Any) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise Malformed("a number that is neither nan nor infinite")
    return float(text)


def _check_strides(tensor: Tensor, strides: Any) -> None:
    right = isinstance(strides, list) and len(strides) == tensor.ndim
    if not right or not all(type(stride) is int and stride >= 0 for stride in strides):
        raise Malformed("strides that do not belong to the tensor")
    shape = tensor.shape
    if spread_of(shape, strides) > LARGEST_SPREAD or overlaps(shape, strides):
        raise Malformed("strides that overlap or reach too far")


@cache
def _output_classes() -> dict[str, type]:
    found: dict[str, type] = {}
    waiting = [ModelOutput]
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return found


def _class_of(name: Any, base: type) -> Any:
    found = getattr(cache_utils, _text(name), None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise Malformed(f"the library has no cache class {name[:40]}")
    return found


_HALVES = ("self_attention_cache", "cross_attention_cache")


def _require_parts(made: Any) -> None:
    """A cache has layers, or two caches."""
    layers = vars(made).get("layers")
    whole = isinstance(layers, list) and all(isinstance(p, CacheLayerMixin) for p in layers)
    if not whole and not all(isinstance(vars(made).get(half), Cache) for half in _HALVES):
        raise Malformed("a cache without layers")


def _set_state(made: Any, state: dict[str, Any]) -> Any:
    """Attributes as they were; nothing that the class defines itself."""
    for name, part in state.items():
        if not name.isidentifier() or hasattr(type(made), name) or name.startswith("__"):
            raise Malformed(f"a cache has no attribute {name[:40]}")
        vars(made)[name] = part
    return made
