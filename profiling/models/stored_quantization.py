"""How the weights of a quantized checkpoint are stored: what config.json and the headers say.

Three published formats are read: AWQ as AutoAWQ writes it for its GEMM kernels, GPTQ in both of its
versions, and packed weights of compressed-tensors. Nothing here imports a framework.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiling.errors import ConfigError

AWQ, GPTQ, PACKED = METHODS = ("awq", "gptq", "compressed-tensors")
# Formats that the library reads by packages that this project installs.
_BY_LIBRARY = ("bitsandbytes", "torchao")
_KEY = "model.checkpoint"
# Bits of the integers that codes are packed into.
WORD = 32
_BITS = {AWQ: (4,), GPTQ: (2, 4, 8), PACKED: (4, 8)}
_INTEGERS, _FLOATS = ("I32",), ("F16", "BF16", "F32")
_SHAPES = ("I32", "I64")

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A tensor of a layer, as a format has it."""

    shape: Shape
    dtypes: tuple[str, ...]
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class StoredFormat:
    """How each converted layer of a checkpoint is stored."""

    method: str
    bits: int
    # Inputs that share a scale; None: all of a row.
    group: int | None
    # What has to be added to a stored zero.
    zero_offset: int = 0
    # Whether each input has the number of its group.
    ordered: bool = False
    symmetric: bool = False

    @property
    def marker(self) -> str:
        """The tensor that every converted layer has, and no other."""
        return "weight_packed" if self.method == PACKED else "qweight"

    @property
    def codes(self) -> int:
        """Codes in one integer."""
        return WORD // self.bits

    def describe(self) -> str:
        version = {0: " v2", 1: " v1"}[self.zero_offset] if self.method == GPTQ else ""
        size = "whole rows" if self.group is None else f"groups of {self.group}"
        return f"a checkpoint of {self.method}{version}, {self.bits} bits, {size}"

    def num_groups(self, inputs: int) -> int:
        return 1 if self.group is None else math.ceil(inputs / self.group)

    def tensors(self, inputs: int, outputs: int) -> dict[str, Stored]:
        """The tensors of a layer by the end of their names."""
        groups, codes = self.num_groups(inputs), self.codes
        if self.method == PACKED:
            return self._packed(inputs, outputs)
        zeros = Stored(shape=(groups, math.ceil(outputs / codes)), dtypes=_INTEGERS)
        scales = Stored(shape=(groups, outputs), dtypes=_FLOATS)
        if self.method == AWQ:
            packed = Stored(shape=(inputs, math.ceil(outputs / codes)), dtypes=_INTEGERS)
            return {"qweight": packed, "qzeros": zeros, "scales": scales}
        return {
            "qweight": Stored(shape=(math.ceil(inputs / codes), outputs), dtypes=_INTEGERS),
            "qzeros": zeros,
            "scales": scales,
            "g_idx": Stored(shape=(inputs,), dtypes=_INTEGERS, required=self.ordered),
        }

    def _packed(self, inputs: int, outputs: int) -> dict[str, Stored]:
        groups, codes = self.num_groups(inputs), self.codes
        found = {
            "weight_packed": Stored(shape=(outputs, math.ceil(inputs / codes)), dtypes=_INTEGERS),
            "weight_scale": Stored(shape=(outputs, groups), dtypes=_FLOATS),
            "weight_shape": Stored(shape=(2,), dtypes=_SHAPES),
        }
        if not self.symmetric:
            zeros = (math.ceil(outputs / codes), groups)
            found["weight_zero_point"] = Stored(shape=zeros, dtypes=_INTEGERS)
        if self.ordered:
            found["weight_g_idx"] = Stored(shape=(inputs,), dtypes=_INTEGERS)
        return found

    def likely_sizes(self, shape: Shape) -> Iterator[tuple[int, int]]:
        """Inputs and outputs that a layer may have whose first tensor has this shape."""
        if len(shape) != 2:
            return
        first, second = shape
        if self.method == AWQ:
            yield first, second * self.codes
        elif self.method == GPTQ:
            yield first * self.codes, second
        else:
            # The last integer of a row may be filled up.
            yield from ((second * self.codes - less, first) for less in range(self.codes))


def read_format(config: Mapping[str, Any], place: Path | str) -> StoredFormat | None:
    """The format that config.json names; None where weights are not stored in one of these."""
    said = config.get("quantization_config")
    if said is None:
        return None
    if not isinstance(said, Mapping):
        raise _refuse(place, "quantization_config is not an object")
    method = said.get("quant_method")
    # Old ones of bitsandbytes do not name it.
    old = method is None and bool({"load_in_4bit", "load_in_8bit"} & set(said))
    if method in _BY_LIBRARY or old:
        return None
    readers = {AWQ: _read_awq, GPTQ: _read_gptq, PACKED: _read_packed}
    if not isinstance(method, str) or method not in readers:
        allowed = ", ".join((*METHODS, *_BY_LIBRARY))
        raise _refuse(place, f"quant_method is {method!r:.60}; allowed is one of {allowed}")
    return readers[method](said, place)


def _refuse(place: Path | str, reason: str) -> ConfigError:
    return ConfigError(_KEY, place, f"config.json, quantization_config: {reason}")


def _read_awq(said: Mapping[str, Any], place: Path | str) -> StoredFormat:
    version = str(said.get("version") or said.get("format") or "gemm").lower()
    if version != "gemm":
        raise _refuse(place, f"version is {version:.60}; allowed for awq is gemm")
    bits = said.get("bits", said.get("w_bit", 4))
    group = said.get("group_size", said.get("q_group_size", 128))
    return StoredFormat(
        method=AWQ, bits=_read_bits(AWQ, bits, place), group=_read_group(group, place)
    )


def _read_gptq(said: Mapping[str, Any], place: Path | str) -> StoredFormat:
    written = str(said.get("checkpoint_format") or said.get("format") or "gptq").lower()
    offsets = {"gptq": 1, "gptq_v2": 0}
    if written not in offsets or said.get("is_marlin_format"):
        found = "marlin" if said.get("is_marlin_format") else written
        allowed = ", ".join(offsets)
        raise _refuse(place, f"checkpoint_format is {found:.60}; allowed for gptq are {allowed}")
    if said.get("dynamic"):
        raise _refuse(place, "dynamic gives layers settings of their own, which are not read")
    return StoredFormat(
        method=GPTQ,
        bits=_read_bits(GPTQ, said.get("bits"), place),
        group=_read_group(said.get("group_size", 128), place),
        zero_offset=offsets[written],
        ordered=bool(said.get("desc_act")),
    )


def _read_packed(said: Mapping[str, Any], place: Path | str) -> StoredFormat:
    if said.get("format") != "pack-quantized":
        found = said.get("format")
        raise _refuse(place, f"format is {found!r:.60}; allowed is pack-quantized")
    if said.get("kv_cache_scheme"):
        raise _refuse(place, "kv_cache_scheme quantizes the cache, which is not read")
    if said.get("transform_config"):
        raise _refuse(place, "transform_config rotates activations, which is not read")
    groups = said.get("config_groups")
    listed = groups.values() if isinstance(groups, Mapping) else ()
    settings = [_weights_of(one, place) for one in listed]
    if not settings or any(one != settings[0] for one in settings):
        raise _refuse(place, "config_groups has to have one setting for the weights of all groups")
    return _packed_format(settings[0], place)


def _weights_of(group: Any, place: Path | str) -> Mapping[str, Any]:
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(weights, Mapping):
        raise _refuse(place, "config_groups has a group without weights")
    for name in ("input_activations", "output_activations"):
        if group.get(name) is not None:
            raise _refuse(place, f"{name} are quantized; allowed are weights only")
    read = ("num_bits", "type", "symmetric", "strategy", "group_size", "actorder")
    return {name: weights.get(name) for name in read}


def _packed_format(weights: Mapping[str, Any], place: Path | str) -> StoredFormat:
    if weights["type"] not in (None, "int"):
        raise _refuse(place, f"weights are {weights['type']!r:.60}; allowed is int")
    group, strategy = weights["group_size"], weights["strategy"]
    if strategy is None:
        strategy = "channel" if group in (None, -1) else "group"
    if strategy not in ("group", "channel"):
        raise _refuse(place, f"strategy is {strategy!r:.60}; allowed are group and channel")
    return StoredFormat(
        method=PACKED,
        bits=_read_bits(PACKED, weights["num_bits"], place),
        group=_read_group(group, place) if strategy == "group" else None,
        ordered=weights["actorder"] in ("group", "dynamic"),  # two names of one order
        symmetric=weights["symmetric"] is not False,
    )


def _read_bits(method: str, bits: Any, place: Path | str) -> int:
    allowed = _BITS[method]
    if isinstance(bits, bool) or bits not in allowed:
        listed = ", ".join(map(str, allowed))
        raise _refuse(place, f"bits are {bits!r:.60}; allowed for {method} is {listed}")
    return int(bits)


def _read_group(group: Any, place: Path | str) -> int | None:
    if group == -1:
        return None
    if isinstance(group, bool) or not isinstance(group, int) or group < 1:
        raise _refuse(place, f"group_size is {group!r:.60}; allowed is -1 or a number from 1")
    return group


@dataclass(frozen=True, kw_only=True)
class Headers:
    """What the files of a checkpoint hold: for each tensor its file, its shape and its dtype."""

    place: Path | str
    files: Mapping[str, str]
    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, str]

    @classmethod
    def of(cls, headers: Mapping[str, Mapping[str, Any]], place: Path | str) -> Headers:
        """From the headers of safetensors files by the files' names."""
        items = [
            (name, file, item)
            for file, header in headers.items()
            for name, item in header.items()
            if name != "__metadata__"
        ]
        return cls(
            place=place,
            files={name: file for name, file, _ in items},
            shapes={name: tuple(item["shape"]) for name, _, item in items},
            dtypes={name: str(item["dtype"]) for name, _, item in items},
        )

    def layers(self, stored: StoredFormat) -> list[str]:
        """The names of the converted layers, as the checkpoint has them."""
        end = f".{stored.marker}"
        return [name.removesuffix(end) for name in self.files if name.endswith(end)]

    def check_layer(self, stored: StoredFormat, layer: str, inputs: int, outputs: int) -> None:
        """Refuse a layer that lacks a tensor, or has one that does not fit, in one line."""
        for end, expected in stored.tensors(inputs, outputs).items():
            reason = self._problem(f"{layer}.{end}", expected)
            if reason is not None:
                file = self.files[f"{layer}.{stored.marker}"]
                told = f"{self.files.get(f'{layer}.{end}', file)}: {reason}"
                raise ConfigError(_KEY, self.place, told)

    def _problem(self, name: str, expected: Stored) -> str | None:
        if name not in self.files:
            return f"there is no {name} in it" if expected.required else None
        found, dtype = self.shapes[name], self.dtypes[name]
        if found != expected.shape:
            return f"{name} is {_show(found)} and should be {_show(expected.shape)}"
        if dtype not in expected.dtypes:
            return f"{name} is {dtype} and should be {' or '.join(expected.dtypes)}"
        return None

    def check(self, stored: StoredFormat) -> None:
        """Refuse layers whose tensors do not fit each other."""
        layers = self.layers(stored)
        if not layers:
            reason = f"config.json says {stored.method}, and no tensor is called *.{stored.marker}"
            raise ConfigError(_KEY, self.place, reason)
        for layer in layers:
            self._check_alone(stored, layer)

    def _check_alone(self, stored: StoredFormat, layer: str) -> None:
        """Without the network: by the sizes that the first tensor allows."""
        name = f"{layer}.{stored.marker}"
        sizes = list(stored.likely_sizes(self.shapes[name]))
        if not sizes:
            reason = f"{self.files[name]}: {name} is {_show(self.shapes[name])}; it has two axes"
            raise ConfigError(_KEY, self.place, reason)
        for inputs, outputs in sizes:
            expected = stored.tensors(inputs, outputs)
            if all(self._problem(f"{layer}.{end}", one) is None for end, one in expected.items()):
                return
        self.check_layer(stored, layer, *sizes[0])


def _show(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a single number"
