"""Checkpoint folders in the published formats of quantized weights, written value by value.

Each packer follows the loops of the package that publishes its format: AutoAWQ's `WQLinear_GEMM`,
AutoGPTQ's `QuantLinear.pack`, and `pack_to_int32` of compressed-tensors.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from profiling.models.weights import CHECKPOINTS
from tests.tiny_models import load

Array = NDArray[Any]
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """A weight [out, in] in whole numbers, and what it stands for."""

    codes: Array  # [out, in], 0 to 2^bits - 1
    zeros: Array  # [out, groups]
    scales: Array  # [out, groups], half precision
    groups: Array  # [in]: the number of each input's group
    dense: Array  # [out, in]


def round_weight(
    weight: Array, *, bits: int, group: int, symmetric: bool, order: Array | None = None
) -> Rounded:
    """Rounded to the nearest step; `order` gives inputs to groups by rank instead of by place."""
    out, width = weight.shape
    size = width if group == -1 else group
    ranks = numpy.arange(width) if order is None else numpy.argsort(order)
    groups = ranks // size
    count, top = -(-width // size), 2**bits - 1
    scales = numpy.zeros((out, count), numpy.float16)
    zeros = numpy.zeros((out, count), numpy.int64)
    for number in range(count):
        part = weight[:, groups == number]
        low, high = part.min(1).clip(max=0), part.max(1).clip(min=0)
        if symmetric:
            high = numpy.maximum(-low, high)
            low = -high
        scales[:, number] = numpy.maximum((high - low) / top, 1e-4)
        middle = numpy.full(out, 2 ** (bits - 1))
        found = numpy.rint(-low / scales[:, number].astype(numpy.float32))
        zeros[:, number] = middle if symmetric else found.clip(0, top)
    steps = scales.astype(numpy.float32)[:, groups]
    codes = (numpy.rint(weight / steps) + zeros[:, groups]).clip(0, top).astype(numpy.int64)
    return Rounded(
        codes=codes,
        zeros=zeros,
        scales=scales,
        groups=groups,
        dense=(codes - zeros[:, groups]) * steps,
    )


def as_integers(values: Array) -> torch.Tensor:
    return torch.from_numpy(values.astype(numpy.uint32).view(numpy.int32).copy())


def pack_awq(rounded: Rounded, _: Settings) -> Tensors:
    order_map = [0, 2, 4, 6, 1, 3, 5, 7]

    def pack(values: Array) -> torch.Tensor:  # [rows, out]
        packed = numpy.zeros((values.shape[0], values.shape[1] // 8), numpy.uint32)
        for column in range(packed.shape[1]):
            for place in range(8):
                code = values[:, column * 8 + order_map[place]].astype(numpy.uint32)
                packed[:, column] |= code << numpy.uint32(place * 4)
        return as_integers(packed)

    return {
        "qweight": pack(rounded.codes.T),
        "qzeros": pack(rounded.zeros.T),
        "scales": torch.from_numpy(rounded.scales.T.copy()),
    }


def pack_gptq(rounded: Rounded, settings: Settings) -> Tensors:
    bits, count = settings.bits, 32 // settings.bits
    codes = rounded.codes.T.astype(numpy.uint32)
    weight = numpy.zeros((codes.shape[0] // count, codes.shape[1]), numpy.uint32)
    for row in range(weight.shape[0]):
        for place in range(count):
            weight[row] |= codes[row * count + place] << numpy.uint32(bits * place)
    stored = rounded.zeros.T.astype(numpy.uint32)
    zeros = numpy.zeros((stored.shape[0], stored.shape[1] // count), numpy.uint32)
    for column in range(zeros.shape[1]):
        for place in range(count):
            zeros[:, column] |= stored[:, column * count + place] << numpy.uint32(bits * place)
    if settings.version != "gptq_v2":
        # The first version has one less of each, subtracted from the whole integer.
        zeros -= numpy.uint32(sum(1 << bits * place for place in range(count)))
    return {
        "qweight": as_integers(weight),
        "qzeros": as_integers(zeros),
        "scales": torch.from_numpy(rounded.scales.T.copy()),
        "g_idx": torch.from_numpy(rounded.groups.astype(numpy.int32)),
    }


def pack_compressed(rounded: Rounded, settings: Settings) -> Tensors:
    bits, count = settings.bits, 32 // settings.bits

    def pack(values: Array) -> Array:  # along the last axis, filled up with zeros
        packed = numpy.zeros((values.shape[0], -(-values.shape[1] // count)), numpy.uint32)
        for column in range(values.shape[1]):
            code = values[:, column].astype(numpy.uint32)
            packed[:, column // count] |= code << numpy.uint32(bits * (column % count))
        return packed

    found = {
        "weight_packed": as_integers(pack(rounded.codes)),
        "weight_scale": torch.from_numpy(rounded.scales.copy()).bfloat16()
        if settings.scale_dtype == "bfloat16"
        else torch.from_numpy(rounded.scales.copy()),
        "weight_shape": torch.tensor(rounded.codes.shape),
    }
    if not settings.symmetric:
        zeros = numpy.ascontiguousarray(pack(rounded.zeros.T).T)
        found["weight_zero_point"] = as_integers(zeros)
    if settings.ordered:
        found["weight_g_idx"] = torch.from_numpy(rounded.groups.astype(numpy.int32))
    return found


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One way to store a checkpoint's weights."""

    method: str
    bits: int = 4
    group: int = 64
    symmetric: bool = False
    version: str = ""
    ordered: bool = False
    scale_dtype: str = "float16"
    more: Mapping[str, Any] = field(default_factory=dict)

    def pack(self, rounded: Rounded) -> Tensors:
        packers: dict[str, Callable[[Rounded, Settings], Tensors]] = {
            "awq": pack_awq,
            "gptq": pack_gptq,
            "compressed-tensors": pack_compressed,
        }
        return packers[self.method](rounded, self)

    def config(self) -> dict[str, Any]:
        """As the package writes it into config.json."""
        return {"awq": self._awq, "gptq": self._gptq}.get(self.method, self._compressed)() | dict(
            self.more
        )

    def _awq(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "group_size": self.group,
            "modules_to_not_convert": ["visual"],
            "quant_method": "awq",
            "version": "gemm",
            "zero_point": True,
        }

    def _gptq(self) -> dict[str, Any]:
        said = {
            "bits": self.bits,
            "damp_percent": 0.01,
            "desc_act": self.ordered,
            "group_size": self.group,
            "quant_method": "gptq",
            "static_groups": False,
            "sym": self.symmetric,
            "true_sequential": True,
        }
        return said | ({"checkpoint_format": self.version} if self.version else {})

    def _compressed(self) -> dict[str, Any]:
        weights = {
            "actorder": "group" if self.ordered else None,
            "block_structure": None,
            "dynamic": False,
            "group_size": None if self.group == -1 else self.group,
            "num_bits": self.bits,
            "observer": "minmax",
            "observer_kwargs": {},
            "strategy": "channel" if self.group == -1 else "group",
            "symmetric": self.symmetric,
            "type": "int",
        }
        one = {
            "input_activations": None,
            "output_activations": None,
            "targets": ["Linear"],
            "weights": weights,
        }
        return {
            "config_groups": {"group_0": one},
            "format": "pack-quantized",
            "global_compression_ratio": 1.5,
            "ignore": ["lm_head", "re:visual.*", "re:.*vision.*"],
            "kv_cache_scheme": None,
            "quant_method": "compressed-tensors",
            "quantization_status": "compressed",
        }


def write_folder(
    folder: Path,
    family: str,
    settings: Settings,
    *,
    converted: Callable[[str], bool],
    rename: Callable[[str], str] = str,
    shards: int = 1,
) -> dict[str, Array]:
    """An embedded checkpoint with some of its layers packed; their dense weights by own name."""
    source = CHECKPOINTS / "tiny" / family
    shutil.copytree(source, folder)
    tensors = own_tensors(family)
    (folder / "model.safetensors").unlink()
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = settings.config()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    dense: dict[str, Array] = {}
    written: Tensors = {}
    for name, tensor in tensors.items():
        layer, _, end = name.rpartition(".")
        if end != "weight" or tensor.ndim != 2 or not converted(layer):
            written[rename(name)] = tensor
            continue
        generator = numpy.random.default_rng(len(dense))
        order = generator.permutation(tensor.shape[1]) if settings.ordered else None
        rounded = round_weight(
            tensor.float().numpy(),
            bits=settings.bits,
            group=settings.group,
            symmetric=settings.symmetric,
            order=order,
        )
        dense[layer] = rounded.dense
        own = rename(name).removesuffix(".weight")
        written |= {f"{own}.{part}": value for part, value in settings.pack(rounded).items()}
    write_shards(folder, written, shards)
    return dense


def own_tensors(family: str) -> Tensors:
    """Those of the embedded network, under its own names and each once."""
    first: dict[int, str] = {}
    state = load(family).network.state_dict()
    for name, tensor in state.items():
        first.setdefault(tensor.data_ptr(), name)
    return {name: state[name].clone() for name in first.values()}


def write_shards(folder: Path, tensors: Tensors, shards: int) -> None:
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, places = sorted(tensors), {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name].contiguous() for name in names[number::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
