"""Which layers of a network are quantized, and how: by a library or by this project's layers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, TorchAoConfig

from profiling.models.family import Family
from profiling.models.grouped_linear import BITS, GroupedLinear, find_group
from profiling.models.quantizers import BITSANDBYTES, REFERENCE, TORCHAO
from profiling.records import DERIVED, Reading, reading

# The numbers of a layer's inputs and outputs must be multiples of these: bitsandbytes reads rows in
# blocks of 64 and, on CPUs with bf16 instructions, columns in blocks of 32. torchao does the same
# with 4 bits; with 8 bits it multiplies as torch does. The rule does not depend on the device, so
# that the same weights are quantized on every device.
_BLOCKS = {
    (BITSANDBYTES, 8): (64, 32),
    (BITSANDBYTES, 4): (64, 32),
    (TORCHAO, 8): (1, 1),
    (TORCHAO, 4): (64, 32),
    **dict.fromkeys(((REFERENCE, bits) for bits in BITS), (1, 1)),
}

# Bits of a scale, and how many quantized scales share one.
_SINGLE, _SCALES = 32, 256


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How weights are quantized."""

    bits: int
    engine: str = BITSANDBYTES
    # Both exist in bitsandbytes only.
    double: bool = False  # 4 bits: the scales of the blocks are quantized as well
    outlier_threshold: float = 0.0  # 8 bits: larger activations are not quantized

    @property
    def blocks(self) -> tuple[int, int]:
        """The numbers of inputs and of outputs must be multiples of these."""
        return _BLOCKS[self.engine, self.bits]

    def stored_bits(self, inputs: int, dtype: torch.dtype) -> float:
        """Bits that are stored for each value of a row of so many, scales in.

        `dtype` is that of the arithmetic, which torchao keeps its scales in.
        """
        if self.engine == TORCHAO:
            scale = 8 * dtype.itemsize
            # With 4 bits a group has a scale and a zero.
            return 8 + scale / inputs if self.bits == 8 else 4 + 2 * scale / self.blocks[0]
        if self.bits == 8:
            return 8 + _SINGLE / inputs
        block = self.blocks[0]
        # Quantized scales have 8 bits, and share one in single precision.
        return 4 + (8 + _SINGLE / _SCALES if self.double else _SINGLE) / block

    def config(
        self, left_out: list[str], dtype: torch.dtype, device: torch.device
    ) -> BitsAndBytesConfig | TorchAoConfig:
        """The configuration for the library; `dtype` is the dtype of the arithmetic."""
        if self.engine == TORCHAO:
            return TorchAoConfig(self.torchao_config(device), modules_to_not_convert=left_out)
        if self.bits == 8:
            return BitsAndBytesConfig(
                load_in_8bit=True,
                llm_int8_threshold=self.outlier_threshold,
                llm_int8_skip_modules=left_out,
            )
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=self.double,
            bnb_4bit_compute_dtype=dtype,
            # Whatever the number of bits, this replaces the library's own list.
            llm_int8_skip_modules=left_out,
        )

    def torchao_config(self, device: torch.device) -> Any:
        """The configuration for torchao."""
        # By default torchao changes the compiler's options for the whole process.
        plain = {"set_inductor_config": False}
        if self.bits == 8:
            from torchao.quantization import Int8WeightOnlyConfig

            return Int8WeightOnlyConfig(**plain)
        group, _ = self.blocks
        if device.type == "cuda":
            from torchao.quantization import Int4WeightOnlyConfig

            # The other layouts need kernels from additional packages.
            return Int4WeightOnlyConfig(
                group_size=group, int4_packing_format="tile_packed_to_4d", **plain
            )
        from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

        return PrototypeInt4WeightOnlyConfig(group_size=group, **plain)


@dataclass(frozen=True, kw_only=True)
class QuantizedLayers:
    """The layers of a network whose weights are quantized, and what quantizing them took."""

    quantization: Quantization
    names: tuple[str, ...]
    share: float  # of all values of parameters
    # None where they were stored so.
    made_s: float | None
    # What is told of them besides, of layers of this project.
    how: str = ""


def computes_in(
    dtype: torch.dtype, device: torch.device, quantization: Quantization | None = None
) -> str:
    """The arithmetic of a network: `float32`, or `float32; quantized layers bfloat16`."""
    plain = _name(dtype)
    if quantization is None:
        return plain
    quantized = layers_compute_in(quantization, dtype, device)
    if quantization.engine == REFERENCE:
        quantized += " (reference kernel: dequantized for each product)"
    return plain if quantized == plain else f"{plain}; quantized layers {quantized}"


def layers_compute_in(quantization: Quantization, dtype: torch.dtype, device: torch.device) -> str:
    """What quantized layers multiply in, whatever dtype was asked for.

    Torchao multiplies in the dtype of the activations. Bitsandbytes multiplies 8-bit weights with
    activations rounded to 8 bits, and 4-bit weights in the dtype asked for, except on a processor
    with bf16 instructions: there it packs the weights at the first forward of an evaluation, and
    its kernel for packed weights rounds activations and scales to bfloat16. The layers of this
    project multiply in the dtype of the activations.
    """
    if quantization.engine in (REFERENCE, TORCHAO):
        return _name(dtype)
    if quantization.bits == 8:
        return "int8"
    return "bfloat16" if device.type == "cpu" and _packs_weights() else _name(dtype)


def _packs_weights() -> bool:
    """Whether bitsandbytes packs 4-bit weights on this processor: its layers ask the same."""
    from bitsandbytes.functional import has_avx512bf16

    return bool(has_avx512bf16())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def split_layers(family: Family, quantization: Quantization) -> tuple[list[str], list[str]]:
    """The names of the linear layers that are quantized, and of those that are not.

    Not quantized are the head (its errors would directly change which token is chosen), what the
    library keeps in single precision, and widths that are not multiples of a kernel's blocks.
    """
    rows, columns = quantization.blocks
    quantized: list[str] = []
    left_out: list[str] = []
    network = family.empty_network()
    full = set(network._keep_in_fp32_modules or ()) | set(
        network._keep_in_fp32_modules_strict or ()
    )
    head = family.layout.find_parts(network).head
    for name, layer in network.named_modules():
        if type(layer) is nn.Linear:
            fits = layer.in_features % rows == 0 and layer.out_features % columns == 0
            whole = name == head or full & set(name.split(".")) or not fits
            (left_out if whole else quantized).append(name)
    return quantized, left_out


def group_layers(network: Any, family: Family, group: int) -> dict[str, int]:
    """The layers of the language part that are quantized in groups, and the size of those.

    A width that `group` does not divide has groups of a size that does; one without a size that
    would save anything is left out.
    """
    names, _ = split_layers(family, Quantization(bits=max(BITS), engine=REFERENCE))
    inside = tuple(path + "." for path in family.layout.language_paths)
    sizes = {
        name: find_group(network.get_submodule(name).in_features, group)
        for name in names
        if name.startswith(inside)
    }
    return {name: size for name, size in sizes.items() if size is not None}


def find_grouped(network: nn.Module) -> list[str]:
    """The layers that are stored in groups, by their paths."""
    return [name for name, layer in network.named_modules() if isinstance(layer, GroupedLinear)]


def read_bits(network: Any, names: Iterable[str], how: str) -> Reading:
    """Bits that are stored for each quantized value, scales and zeros in."""
    layers = [network.get_submodule(name) for name in names]
    values = sum(layer.in_features * layer.out_features for layer in layers)
    stored = sum(layer.stored_bytes() for layer in layers)
    sizes = Counter(layer.group_size for layer in layers)
    groups = ", ".join(f"{size} in {count} layers" for size, count in sorted(sizes.items()))
    return reading(
        metric="bits_per_weight",
        value=8 * stored / values,
        status=DERIVED,
        source=f"{how}; values that share a scale: {groups}",
    )


def quantize_in_place(
    network: Any, names: Iterable[str], quantization: Quantization, dtype: torch.dtype
) -> None:
    """Quantize layer by layer, so that at most one layer is in memory twice."""
    for name in names:
        layer = network.get_submodule(name)
        if quantization.engine == TORCHAO:
            _replace_weight(layer, quantization)
        else:
            network.set_submodule(name, _quantized(layer, quantization, dtype))


def _replace_weight(layer: nn.Linear, quantization: Quantization) -> None:
    from torchao.quantization import quantize_

    # torchao applies this filter to the layer itself too, not only to its submodules.
    quantize_(
        layer,
        quantization.torchao_config(layer.weight.device),
        filter_fn=lambda module, _: module is layer,
    )


def _quantized(layer: nn.Linear, quantization: Quantization, dtype: torch.dtype) -> nn.Module:
    import bitsandbytes

    device, has_bias = layer.weight.device, layer.bias is not None
    made: Any
    with torch.device("meta"):
        if quantization.bits == 8:
            made = bitsandbytes.nn.Linear8bitLt(
                layer.in_features,
                layer.out_features,
                has_bias,
                has_fp16_weights=False,
                threshold=quantization.outlier_threshold,
            )
        else:
            made = bitsandbytes.nn.Linear4bit(
                layer.in_features,
                layer.out_features,
                has_bias,
                compute_dtype=dtype,
                compress_statistics=quantization.double,
                quant_type="nf4",
            )
    kind, settings = type(made.weight), dict(vars(made.weight))
    for key in ("SCB", "CB"):
        settings.pop(key, None)
    values = layer.weight.data.to("cpu") if quantization.bits == 8 else layer.weight.data
    made.weight = kind(values, requires_grad=False, **settings).to(device)
    made.bias = layer.bias
    made.train(layer.training)
    return made  # type: ignore[no-any-return]


def quantized_share(network: nn.Module, names: Iterable[str]) -> float:
    """The share of a network's weights that are quantized."""
    few = sum(layer.in_features * layer.out_features for layer in _linears(network, names))
    kept = {id(layer.weight) for layer in _linears(network, names)}
    full = sum(p.numel() for p in network.parameters() if id(p) not in kept)
    return few / (few + full)


def _linears(network: nn.Module, names: Iterable[str]) -> Iterator[Any]:
    for name in names:
        yield network.get_submodule(name)


def be_quiet() -> None:
    """Silence bitsandbytes, which warns at each product that it computes in half precision."""
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
