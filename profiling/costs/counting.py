"""Counts the floating-point operations of a network, operator by operator.

Matrix products, convolutions and attention are counted; a multiply-add is two operations.
Elementwise operations, norms, softmax and rotary embeddings are not counted, as is usual. An
operator that is known neither as a product nor as free is reported, never counted as 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

Arguments = Mapping[str, Any]
Formula = Callable[[Arguments, Any], int]


def _product(operand: str) -> Formula:
    """Any product: one dot product per element of the result, as long as a row of the operand."""

    def count(arguments: Arguments, result: Any) -> int:
        made = _made(arguments, result)
        return 2 * made.numel() * int(arguments[operand].shape[-1])

    return count


def _made(arguments: Arguments, result: Any) -> Tensor:
    """The first result of an operator, or its `out` argument if it returns nothing."""
    if isinstance(result, Tensor):
        return result
    made: Tensor = result[0] if result else arguments["out"]
    return made


def _convolution(arguments: Arguments, result: Any) -> int:
    weight = arguments["weight"].shape
    if arguments["transposed"]:
        return 2 * prod(arguments["input"].shape) * prod(weight[1:])
    return 2 * _made(arguments, result).numel() * prod(weight[1:])


def _substitution(arguments: Arguments, result: Any) -> int:
    """A triangular system: each value of the result takes half a row of the matrix."""
    return _made(arguments, result).numel() * int(arguments["self"].shape[-1])


def _attention(arguments: Arguments, result: Any) -> int:
    """Scores and weighted sum, [B, H, S, D]; every query head uses its group's keys."""
    batch, heads, rows, width = arguments["query"].shape
    columns, out_width = arguments["key"].shape[-2], arguments["value"].shape[-1]
    return int(2 * batch * heads * rows * columns * (width + out_width))


def _attention_by_rows(query: str, key: str, value: str, ends: tuple[str, str]) -> Formula:
    """The layout [B, S, H, D], or [all rows, H, D] if the ends of the segments are given."""

    def count(arguments: Arguments, result: Any) -> int:
        rows, keys = arguments[query].shape, arguments[key].shape
        widths = rows[-1] + arguments[value].shape[-1]
        if arguments.get(ends[0]) is None:
            return int(2 * rows[0] * rows[-2] * rows[1] * keys[1] * widths)
        segments = zip(*(_lengths(arguments[name]) for name in ends), strict=True)
        return int(2 * rows[-2] * widths * sum(rows * columns for rows, columns in segments))

    return count


def _lengths(ends: Tensor) -> list[int]:
    return (ends[1:] - ends[:-1]).tolist()  # type: ignore[no-any-return]


FORMULAS: dict[str, Formula] = {
    "aten::mm": _product("self"),
    "aten::bmm": _product("self"),
    "aten::mv": _product("self"),
    "aten::dot": _product("self"),
    "aten::addmm": _product("mat1"),
    "aten::_addmm_activation": _product("mat1"),
    "aten::addmv": _product("mat"),
    "aten::baddbmm": _product("batch1"),
    "aten::linear": _product("input"),
    "aten::mkldnn_linear": _product("self"),
    "aten::_grouped_mm": _product("self"),
    "aten::linalg_solve_triangular": _substitution,
    "aten::_scaled_mm": _product("self"),
    "aten::_int_mm": _product("self"),
    "aten::_weight_int8pack_mm": _product("self"),
    "aten::_weight_int4pack_mm": _product("self"),
    "aten::_weight_int4pack_mm_for_cpu": _product("self"),
    "aten::_weight_int4pack_mm_with_scales_and_zeros": _product("self"),
    "aten::_dyn_quant_matmul_4bit": _product("inp"),
    "bitsandbytes::gemv_4bit": _product("A"),
    "bitsandbytes::gemm_4bit": _product("A"),
    "bitsandbytes::int8_linear_matmul": _product("A"),
    "bitsandbytes::int8_scaled_mm": _product("A"),
    "bitsandbytes::int8_mixed_scaled_mm": _product("A"),
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::convolution_overrideable": _convolution,
    "aten::scaled_dot_product_attention": _attention,
    "aten::_scaled_dot_product_flash_attention": _attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten::_scaled_dot_product_efficient_attention": _attention,
    "aten::_scaled_dot_product_cudnn_attention": _attention,
    "aten::_scaled_dot_product_fused_attention_overrideable": _attention,
    "aten::_flash_attention_forward": _attention_by_rows(
        "query", "key", "value", ("cum_seq_q", "cum_seq_k")
    ),
    "aten::_efficient_attention_forward": _attention_by_rows(
        "query", "key", "value", ("cu_seqlens_q", "cu_seqlens_k")
    ),
    "flash_attn::_flash_attn_forward": _attention_by_rows("q", "k", "v", ("", "")),
    "flash_attn::_flash_attn_varlen_forward": _attention_by_rows(
        "q", "k", "v", ("cu_seqlens_q", "cu_seqlens_k")
    ),
}

# Operators without a product that no tag of the library marks as such.
_LISTED = """
aten::_assert_async aten::_fused_rms_norm aten::_is_all_true aten::_local_scalar_dense
aten::_log_softmax aten::_safe_softmax aten::_softmax aten::_to_copy aten::_unique aten::_unique2
aten::_unsafe_index aten::_unsafe_view aten::_upsample_bicubic2d_aa aten::all aten::any aten::arange
aten::argmax aten::argsort aten::as_strided aten::avg_pool2d aten::bincount aten::bucketize
aten::cat aten::clone aten::constant_pad_nd aten::copy_ aten::cumsum aten::detach_ aten::embedding
aten::empty aten::empty_like aten::empty_strided aten::equal aten::eye aten::fill_ aten::flip
aten::floor_divide aten::full aten::full_like aten::gather aten::grid_sampler_2d aten::histc
aten::im2col aten::index aten::index_add aten::index_add_ aten::index_copy aten::index_copy_
aten::index_put aten::index_put_ aten::index_select aten::is_same_size aten::isin aten::item
aten::lift_fresh aten::linspace aten::masked_fill_ aten::masked_scatter aten::masked_scatter_
aten::max aten::min aten::multinomial aten::native_group_norm aten::native_layer_norm
aten::new_empty aten::new_full aten::new_ones aten::new_zeros aten::nonzero aten::norm aten::normal_
aten::ones aten::ones_like aten::pad aten::polar aten::rand aten::rand_like aten::randint
aten::randn aten::record_stream aten::repeat aten::repeat_interleave aten::resize_ aten::rms_norm
aten::roll aten::scalar_tensor aten::scatter aten::scatter_ aten::scatter_add aten::scatter_add_
aten::select_scatter aten::set_ aten::slice_scatter aten::sort aten::stack aten::sym_size aten::topk
aten::tril aten::tril_indices aten::triu aten::uniform_ aten::unique_consecutive aten::unique_dim
aten::upsample_bicubic2d aten::upsample_bilinear2d aten::upsample_linear1d aten::upsample_nearest2d
aten::zero_ aten::zeros aten::zeros_like bitsandbytes::dequantize_4bit
bitsandbytes::dequantize_blockwise bitsandbytes::int8_double_quant bitsandbytes::int8_mm_dequant
bitsandbytes::int8_vectorwise_dequant bitsandbytes::int8_vectorwise_quant
bitsandbytes::quantize_4bit bitsandbytes::quantize_blockwise prim::device
"""
FREE = frozenset(_LISTED.split())


class FlopCounter(TorchDispatchMode):
    """Counts while it is active; it slows the code inside, so nothing is timed there."""

    def __init__(self) -> None:
        super().__init__()
        self.by_operator: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.parameters: dict[int, nn.Parameter] = {}

    @property
    def flops(self) -> int:
        return sum(self.by_operator.values())

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = operator._schema.name
        formula = FORMULAS.get(name)
        if formula is None and _is_composed(operator):
            with self:
                return operator.decompose(*args, **kwargs)
        self._note_parameters(name, args)
        blank = _blank_attention(name, args)
        result = operator(*args, **kwargs) if blank is None else blank
        if formula is not None:
            self.by_operator[name] += formula(_arguments(operator, args, kwargs), result)
        elif not is_free(operator):
            self.unknown[name] += 1
        return result

    def _note_parameters(self, name: str, args: Any) -> None:
        # An embedding reads only the rows that are looked up.
        if name == "aten::embedding":
            return
        for value in args:
            if isinstance(value, nn.Parameter):
                self.parameters[id(value)] = value


def _blank_attention(name: str, args: Any) -> Tensor | None:
    """An empty result for attention on meta tensors, which the library would decompose."""
    if name != "aten::scaled_dot_product_attention" or not args[0].is_meta:
        return None
    query, _, value = args[:3]
    blank: Tensor = query.new_empty(*query.shape[:-1], value.shape[-1])
    return blank


@cache
def _is_composed(operator: Any) -> bool:
    """Whether an operator is composed of others, which are then counted one by one."""
    return bool(
        torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), "CompositeImplicitAutograd")
    )


@cache
def is_free(operator: Any) -> bool:
    """Whether an operator has no product: elementwise, a reduction, a view, or listed."""
    if operator._schema.name in FREE:
        return True
    if {torch.Tag.pointwise, torch.Tag.reduction} & set(operator.tags):
        return True
    aliases = [returned.alias_info for returned in operator._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _arguments(operator: Any, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    names = [argument.name for argument in operator._schema.arguments]
    return {**dict(zip(names, args, strict=False)), **kwargs}
