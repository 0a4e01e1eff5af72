"""A linear layer with a quantized weight, and a scale for each group of a row.

It is a reference kernel: each product first makes the whole weight in floating point. It computes
what a fused kernel would, on any device, and its time is that of this kernel alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

BITS = (2, 4, 8)
_BYTE = 8
# Below it a value in half precision loses digits.
_LEAST_NORMAL = torch.finfo(torch.float16).tiny
# Groups of fewer values would spend more bits on scales than they save.
_SMALLEST_GROUP = 16


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """A weight as whole numbers: value = (code - zero) * scale of its group."""

    codes: Tensor  # [out, in], uint8
    bits: int
    scales: Tensor  # [out, groups]
    zeros: Tensor  # [out, groups], whole numbers
    # The group of each input; None: as many consecutive inputs in each.
    groups: Tensor | None = None  # [in]

    def dense(self) -> Tensor:
        """The weight in single precision."""
        return _dense(self.codes, self.scales, self.zeros, self.groups)


def _dense(codes: Tensor, scales: Tensor, zeros: Tensor, groups: Tensor | None) -> Tensor:
    values, scales, zeros = codes.float(), scales.float(), zeros.float()
    if groups is not None:
        return (values - zeros[:, groups]) * scales[:, groups]
    split = values.unflatten(1, (scales.shape[1], -1))
    return ((split - zeros[..., None]) * scales[..., None]).flatten(1)


def find_group(width: int, group: int) -> int | None:
    """The largest size up to `group` that divides a width; None where it is too small."""
    size = next(size for size in range(min(group, width), 0, -1) if width % size == 0)
    return size if size >= min(_SMALLEST_GROUP, group) else None


def quantize_groups(weight: Tensor, *, bits: int, group: int) -> Grouped:
    """Uniform steps between the extremes of each group, rounded to the nearest.

    Zero is always one of the steps, so that a weight of zero stays one.
    """
    split = weight.float().unflatten(1, (-1, group))
    least = split.amin(-1).clamp(max=0)
    most = split.amax(-1).clamp(min=0)
    top = 2**bits - 1
    spread = most - least
    scales = _store(torch.where(spread > 0, spread, 1.0) / top)
    steps = scales.float()
    zeros = (-least / steps).round().clamp(0, top)
    codes = ((split / steps[..., None]).round() + zeros[..., None]).clamp(0, top)
    return Grouped(
        codes=codes.flatten(1).to(torch.uint8),
        bits=bits,
        scales=scales,
        zeros=zeros.to(torch.uint8),
    )


def _store(scales: Tensor) -> Tensor:
    """Scales in half precision, or in single precision where that cannot hold them."""
    half = torch.finfo(torch.float16)
    fits = bool((scales >= _LEAST_NORMAL).all() and (scales <= half.max).all())
    return scales.half() if fits else scales


def stored_bits(bits: int, group: int) -> float:
    """Bits that are stored for each value: its code, and its share of a scale and a zero."""
    return bits + (8 * torch.float16.itemsize + _BYTE) / group


class GroupedLinear(nn.Module):
    """The weight is packed into bytes, as many values in one as its bits allow."""

    def __init__(self, grouped: Grouped, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = grouped.codes.shape
        self.bits = grouped.bits
        # The library takes a weight of this dtype for a quantized one, and does not cast to it.
        packed = pack(grouped.codes, grouped.bits).view(torch.int8)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.scales: Tensor
        self.zeros: Tensor
        self.groups: Tensor | None
        self.register_buffer("scales", grouped.scales)
        self.register_buffer("zeros", grouped.zeros)
        self.register_buffer("groups", grouped.groups)

    def forward(self, given: Tensor) -> Tensor:
        return nn.functional.linear(given, self.dense().to(given.dtype), self.bias)

    def dense(self) -> Tensor:
        """The weight in single precision."""
        codes = unpack(self.weight.view(torch.uint8), self.bits)[:, : self.in_features]
        return _dense(codes, self.scales, self.zeros, self.groups)

    @property
    def group_size(self) -> int:
        """Values that share a scale; of the last group there may be fewer."""
        return -(-self.in_features // self.scales.shape[1])

    def stored_bytes(self) -> int:
        """Of the weight with its scales and zeros."""
        beside = (tensor for tensor in self.buffers())
        return self.weight.nbytes + sum(tensor.nbytes for tensor in beside)

    def extra_repr(self) -> str:
        shape = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{shape}, bits={self.bits}, group_size={self.group_size}"


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes [rows, width] in bytes, the first in the lowest bits; the last byte is filled up."""
    count = _BYTE // bits
    filled = nn.functional.pad(codes, (0, -codes.shape[1] % count))
    split = filled.unflatten(1, (-1, count))
    packed = torch.zeros_like(split[..., 0])
    for place in range(count):
        packed |= split[..., place] << (place * bits)
    return packed.contiguous()


def unpack(packed: Tensor, bits: int) -> Tensor:
    """The codes of a tensor of bytes, those of the last byte included."""
    if bits == _BYTE:
        return packed
    places = range(0, _BYTE, bits)
    return torch.stack([(packed >> place) & (2**bits - 1) for place in places], -1).flatten(1)
