"""Values that modules are called with, as JSON in which a tensor is its digest, and back.

Plain values stand for themselves; everything else is an object with one telling key:

    {"tensor": digest, "shape", "dtype", "strides", "offset"}   the last two where
                                                it lies otherwise than a new one
    {"again": number}                               the same object as the tensor of this number
    {"tuple": [...]}, {"list": [...]}, {"dict": {...}}, {"pairs": [[key, value], ...]}
    {"output": class, "fields": {...}}              an output of the library
    {"cache": class, "state": {...}}                a cache; {"layer": class, ...} inside of it
    {"float": "nan"}, {"dtype": name}, {"device": name}, {"size": [...]}
    {"opaque": class}                               a value that was not stored

Decoding makes plain values, tensors, and objects of the library's own output and cache classes,
found by name among the classes that are loaded; nothing else is ever made or called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
_NAMED = {torch.dtype: "dtype", torch.device: "device"}
_LAYERS_TO_COME = "layer_class_to_replicate"


class Malformed(ValueError):
    """What cannot be a captured value, in a few words."""


@dataclass(frozen=True)
class Opaque:
    """A value that was not stored; its class is all that is known."""

    kind: str


class Fields(dict[str, Any]):
    """An output whose class is not loaded: its fields by name and by position."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def __getitem__(self, key: Any) -> Any:
        by_position = isinstance(key, int | slice)
        return list(self.values())[key] if by_position else super().__getitem__(key)


@dataclass(kw_only=True)
class Encoder:
    """Encodes values; `layers` is the part of a cache that matters, None for all of it."""

    add: Callable[[Tensor], str]
    opaque: Callable[[str], None]
    # The tensors of the values that belong together, numbered as they come: some modules do
    # something else where two arguments are one object.
    _objects: dict[int, int] = field(default_factory=dict)

    def begin(self) -> None:
        """What comes next belongs together, and not with what was before."""
        self._objects = {}

    def encode(self, value: Any, layer: int | None) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, float):  # JSON has no number that is not finite
            return value if math.isfinite(value) else {"float": repr(float(value))}
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
            parts = [self.encode(part, layer) for part in value]
            return {"tuple" if isinstance(value, tuple) else "list": parts}
        if isinstance(value, Cache):
            return self._cache(value, layer)
        if isinstance(value, Mapping):
            return self._mapping(value, layer)
        return self._rest(value)

    def _rest(self, value: Any) -> Any:
        if isinstance(value, torch.Size):
            return {"size": list(value)}
        for named, key in _NAMED.items():
            if isinstance(value, named):
                return {key: str(value).removeprefix("torch.")}
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        self.opaque(kind)
        return {"opaque": kind}

    def _tensor(self, tensor: Tensor) -> Any:
        if not can_be_stored(tensor):
            return self._rest(tensor)
        if id(tensor) in self._objects:
            return {"again": self._objects[id(tensor)]}
        self._objects[id(tensor)] = len(self._objects)
        shape, dtype = list(tensor.shape), str(tensor.dtype)[6:]
        told = {"tensor": self.add(tensor), "shape": shape, "dtype": dtype}
        strides, offset = tensor.stride(), offset_of(tensor)
        if not tensor.numel() or (tensor.is_contiguous() and not offset):
            return told
        if spread_of(shape, strides) > LARGEST_SPREAD or overlaps(shape, strides):
            self.opaque("strides that cannot be restored")
            return told
        return {**told, "strides": list(strides), "offset": offset}

    def _mapping(self, value: Mapping[Any, Any], layer: int | None) -> Any:
        if not all(isinstance(name, str) for name in value):
            pairs = [[self.encode(n, None), self.encode(v, layer)] for n, v in value.items()]
            return {"pairs": pairs}
        parts = {name: self.encode(part, layer) for name, part in value.items()}
        if isinstance(value, ModelOutput):
            return {"output": type(value).__name__, "fields": parts}
        return {"dict": parts}

    def _cache(self, value: Cache, layer: int | None) -> Any:
        state = {}
        for name, part in vars(value).items():
            if name == "layers":
                listed = [self._layer(p, layer in (None, i)) for i, p in enumerate(part)]
                state[name] = {"list": listed}
            elif name != _LAYERS_TO_COME:
                state[name] = self.encode(part, layer)
        grows_by = getattr(value, _LAYERS_TO_COME, None)
        named = grows_by and grows_by.__name__
        return {"cache": type(value).__name__, "state": state, "grows_by": named}

    def _layer(self, value: Any, whole: bool) -> Any:
        kept = {n: p for n, p in vars(value).items() if whole or not isinstance(p, Tensor)}
        state = {name: self.encode(part, None) for name, part in kept.items()}
        return {"layer": type(value).__name__, "state": state, "whole": whole}


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
        if list(tensor.shape) != told.get("shape") or str(tensor.dtype)[6:] != told.get("dtype"):
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
        if not all(isinstance(key, int | float | str | bool | tuple) for key in keys):
            raise Malformed("a key that cannot be one")
        return dict(zip(keys, (self.decode(part) for _, part in told), strict=True))

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
