"""Layers of a quantized checkpoint: read as they are stored, then packed for the reference kernel.

The library's own ways take packages with kernels for GPUs. Here the library reads the tensors,
under all names that it knows, into layers of the stored shapes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from profiling.errors import ConfigError
from profiling.models.grouped_linear import Grouped, GroupedLinear, stored_bits
from profiling.models.stored_quantization import (
    AWQ,
    GPTQ,
    WORD,
    Headers,
    StoredFormat,
    read_format,
)
from profiling.models.weights import read_header

# The name by which the library finds the classes below.
_METHOD = "reference_kernel"
_DTYPES = {
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
}
# The column that each code of an integer belongs to, in the order that AWQ's kernels read them.
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def read_by_reference(config: Any, place: str) -> StoredFormat | None:
    """Have the library read a checkpoint's layers in the way below; None where it is not needed."""
    said = getattr(config, "quantization_config", None)
    stored = read_format({"quantization_config": said}, place)
    if stored is not None:
        config.quantization_config = {"quant_method": _METHOD, "said": said, "place": place}
    return stored


@register_quantization_config(_METHOD)
class _Config(QuantizationConfigMixin):  # type: ignore[misc]
    def __init__(self, *, said: Mapping[str, Any], place: str, quant_method: str) -> None:
        self.said, self.place, self.quant_method = copy.deepcopy(said), place, quant_method


@register_quantizer(_METHOD)
class _Quantizer(HfQuantizer):  # type: ignore[misc]
    """What the library calls before it reads the tensors, and after."""

    def _process_model_before_weight_loading(
        self, model: Any, checkpoint_files: Sequence[str] = (), **_: Any
    ) -> Any:
        said, place = self.quantization_config.said, self.quantization_config.place
        stored = read_format({"quantization_config": said}, place)
        assert stored is not None
        read = {Path(file).name: read_header(Path(file)) for file in checkpoint_files}
        headers = Headers.of(read, place)
        headers.check(stored)
        for layer, path in _paths(model, headers.layers(stored)).items():
            _prepare(model, path, layer, stored, headers)
        return model

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        for path, layer in list(model.named_modules()):
            if isinstance(layer, StoredLinear):
                model.set_submodule(path, layer.packed(path))
        self.remove_quantization_config(model)
        return model

    def is_serializable(self) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


def layer_bits(network: Any, stored: StoredFormat, folder: Path) -> dict[str, float]:
    """Bits that are kept for each value of the layers that a folder has packed, by their paths."""
    headers = Headers.of(
        {path.name: read_header(path) for path in sorted(folder.glob("*.safetensors"))}, folder
    )
    paths = _paths(network, headers.layers(stored)).values()
    return {path: _kept_bits(stored, network.get_submodule(path).in_features) for path in paths}


def _kept_bits(stored: StoredFormat, inputs: int) -> float:
    return stored_bits(stored.bits, -(-inputs // stored.num_groups(inputs)))


def _paths(model: Any, layers: Sequence[str]) -> dict[str, str]:
    """Where the layers are in the network, whatever version of the library named them."""
    mapping = get_model_conversion_mapping(model)
    renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
    converters = [one for one in mapping if isinstance(one, WeightConverter)]
    known, prefix = model.state_dict(), model.base_model_prefix
    found = {}
    for layer in layers:
        own = f"{layer}.weight"
        name, _ = rename_source_key(own, renamings, converters, prefix, known)
        if name not in known and own in known:
            name, _ = rename_source_key(own, [], [], prefix, known)
        found[layer] = name.removesuffix(".weight")
    return found


def _prepare(model: Any, path: str, layer: str, stored: StoredFormat, headers: Headers) -> None:
    """Put a layer of the stored shapes in the place of a linear one."""
    name = f"{layer}.{stored.marker}"
    try:
        plain = model.get_submodule(path)
    except AttributeError:
        plain = None
    if type(plain) is not nn.Linear:
        reason = f"{headers.files[name]}: {name} is of no linear layer of the network"
        raise ConfigError("model.checkpoint", headers.place, reason)
    headers.check_layer(stored, layer, plain.in_features, plain.out_features)
    has_bias = isinstance(plain.bias, Tensor)  # typed as if there always were one
    if not has_bias and f"{layer}.bias" in headers.files:
        # Some versions of AutoGPTQ write one for every layer.
        made = torch.empty(plain.out_features, dtype=plain.weight.dtype, device="meta")
        plain.bias = nn.Parameter(made, requires_grad=False)
    dtypes = {
        end: _DTYPES[headers.dtypes[f"{layer}.{end}"]]
        for end in stored.tensors(plain.in_features, plain.out_features)
        if f"{layer}.{end}" in headers.dtypes
    }
    file = headers.files[name]
    model.set_submodule(path, StoredLinear(plain, stored, dtypes, f"{headers.place}", file))


class StoredLinear(nn.Module):
    """A layer with the tensors of a checkpoint, until they are packed."""

    def __init__(
        self,
        plain: nn.Linear,
        stored: StoredFormat,
        dtypes: Mapping[str, torch.dtype],
        place: str,
        file: str,
    ) -> None:
        super().__init__()
        self.stored, self.place, self.file = stored, place, file
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.bias = plain.bias
        expected = stored.tensors(plain.in_features, plain.out_features)
        for name, dtype in dtypes.items():
            shape = expected[name].shape
            self.register_buffer(name, torch.empty(shape, dtype=dtype, device="meta"))

    @property
    def weight(self) -> Tensor:
        """Nothing to fill: some families draw values for the weights of layers by their names."""
        empty: Any = torch.empty(0)
        empty._is_hf_initialized = True
        return empty  # type: ignore[no-any-return]

    def packed(self, path: str) -> GroupedLinear:
        tensors = {name: tensor for name, tensor in self.named_buffers()}
        try:
            grouped = unpack_layer(self.stored, tensors, self.in_features, self.out_features)
        except ValueError as error:
            told = f"{self.file}: {path}.{error}"
            raise ConfigError("model.checkpoint", self.place, told) from None
        bias = None if self.bias is None else self.bias.data
        return GroupedLinear(grouped, bias).train(self.training)


def unpack_layer(
    stored: StoredFormat, tensors: Mapping[str, Tensor], inputs: int, outputs: int
) -> Grouped:
    """A layer's weight from the tensors of its format; ValueError names one that is wrong."""
    unpack = {AWQ: _unpack_awq, GPTQ: _unpack_gptq}.get(stored.method, _unpack_packed)
    codes, zeros, scales, order = unpack(stored, tensors, inputs, outputs)
    name = "weight_scale" if "weight_scale" in tensors else "scales"
    if not scales.isfinite().all():
        raise ValueError(f"{name} holds values that are not finite")
    return Grouped(
        codes=codes.to(torch.uint8).contiguous(),
        bits=stored.bits,
        scales=scales.contiguous(),
        zeros=zeros.to(torch.uint8).contiguous(),
        groups=_groups(stored, order, inputs, scales.shape[1]),
    )


def _groups(stored: StoredFormat, order: Tensor | None, inputs: int, count: int) -> Tensor | None:
    """The group of each input; None where they follow each other in equal numbers."""
    size = stored.group or inputs
    in_turn = torch.arange(inputs) // size
    if order is None:
        return None if inputs % size == 0 else in_turn
    if int(order.min()) < 0 or int(order.max()) >= count:
        name = "weight_g_idx" if stored.marker == "weight_packed" else "g_idx"
        raise ValueError(
            f"{name} holds {int(order.min())} to {int(order.max())}; groups are {count}"
        )
    same = inputs % size == 0 and torch.equal(order.cpu().long(), in_turn)
    return None if same else order.long()


Unpacked = tuple[Tensor, Tensor, Tensor, Tensor | None]


def _spread(packed: Tensor, bits: int) -> Tensor:
    """The codes of integers along a new last axis, the one in the lowest bits first."""
    places = torch.arange(0, WORD, bits, dtype=torch.int32, device=packed.device)
    return (packed[..., None] >> places) & (2**bits - 1)


def _unpack_awq(
    stored: StoredFormat, tensors: Mapping[str, Tensor], inputs: int, outputs: int
) -> Unpacked:
    def columns(packed: Tensor) -> Tensor:  # [rows, outputs / 8] -> [rows, outputs]
        ordered = torch.empty_like(spread := _spread(packed, stored.bits))
        ordered[..., list(_AWQ_ORDER)] = spread
        return ordered.flatten(1)[:, :outputs]

    codes, zeros = columns(tensors["qweight"]), columns(tensors["qzeros"])
    return codes.T, zeros.T, tensors["scales"].T, None


def _unpack_gptq(
    stored: StoredFormat, tensors: Mapping[str, Tensor], inputs: int, outputs: int
) -> Unpacked:
    rows = _spread(tensors["qweight"], stored.bits).transpose(1, 2)  # [integers, codes, outputs]
    # The first version takes one from every zero of an integer at once, with borrows.
    ones = sum(1 << place for place in range(0, WORD, stored.bits))
    packed = tensors["qzeros"] + stored.zero_offset * ones
    zeros = _spread(packed, stored.bits).flatten(1)[:, :outputs]
    codes = rows.flatten(0, 1)[:inputs]
    return codes.T, zeros.T, tensors["scales"].T, tensors.get("g_idx")


def _unpack_packed(
    stored: StoredFormat, tensors: Mapping[str, Tensor], inputs: int, outputs: int
) -> Unpacked:
    said = tensors["weight_shape"].tolist()
    if said != [outputs, inputs]:
        raise ValueError(f"weight_shape is {said}; the layer is {[outputs, inputs]}")
    codes = _spread(tensors["weight_packed"], stored.bits).flatten(1)[:, :inputs]
    scales = tensors["weight_scale"]
    # Codes have no sign here: half of their range is added to them and to their zeros.
    zeros = torch.full_like(scales, 2 ** (stored.bits - 1), dtype=torch.int32)
    if not stored.symmetric:
        split = _spread(tensors["weight_zero_point"], stored.bits).transpose(1, 2)
        zeros = split.flatten(0, 1)[:outputs]
    order = tensors.get("weight_g_idx")
    # Without an order of their own all inputs have the number -1.
    unordered = order is not None and int(order.min()) == -1 == int(order.max())
    return codes, zeros, scales, None if unordered else order
