"""Known answers for the counter: what one operator costs, whatever the library calls it inside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import nn
from torch.nn import functional

from profiling.costs.counting import (
    FORMULAS,
    FREE,
    FlopCounter,
    is_free,
)

CONTEXTS = (torch.no_grad, torch.inference_mode)
Context = Callable[[], AbstractContextManager[object]]


def count(work: Callable[[], object], context: Context = torch.no_grad) -> FlopCounter:
    with context(), FlopCounter() as counter:
        work()
    return counter


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_two_for_each_weight_and_row(device: str, context: Context, bias: bool) -> None:
    layer = nn.Linear(8, 16, bias=bias, device=device)
    rows = torch.empty(2, 3, 8, device=device)
    assert count(lambda: layer(rows), context).flops == 2 * (2 * 3) * 8 * 16


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_not_discounted(device: str, context: Context, causal: bool) -> None:
    query = torch.empty(2, 4, 10, 8, device=device)

    def attend() -> torch.Tensor:
        return functional.scaled_dot_product_attention(query, query, query, is_causal=causal)

    counter = count(attend, context)
    assert counter.flops == 4 * 2 * 4 * 10 * 10 * 8
    assert not counter.unknown


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_grouped_keys_cost_every_query_head(device: str, context: Context) -> None:
    query = torch.empty(2, 4, 10, 8, device=device)
    key = torch.empty(2, 2, 12, 8, device=device)

    def attend() -> torch.Tensor:
        return functional.scaled_dot_product_attention(query, key, key, enable_gqa=True)

    assert count(attend, context).flops == 4 * 2 * 4 * 10 * 12 * 8


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_eager_attention_costs_what_the_fused_one_costs(device: str) -> None:
    query = torch.empty(2, 4, 10, 8, device=device)

    def attend() -> torch.Tensor:
        weights = torch.matmul(query, query.transpose(-1, -2)).softmax(dim=-1)
        return torch.einsum("bhst,bhtd->bhsd", weights, query)

    assert count(attend).flops == 4 * 2 * 4 * 10 * 10 * 8


def test_the_cpu_attention_kernel_has_a_formula() -> None:
    query = torch.zeros(1, 2, 5, 8)
    counter = count(lambda: functional.scaled_dot_product_attention(query, query, query))
    assert set(counter.by_operator) == {"aten::_scaled_dot_product_flash_attention_for_cpu"}


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_patch_embedding_is_the_matrix_product_that_it_is(device: str) -> None:
    convolution = nn.Conv2d(3, 16, kernel_size=4, stride=4, device=device)
    pixels = torch.empty(2, 3, 8, 12, device=device)
    assert count(lambda: convolution(pixels)).flops == 2 * (2 * 2 * 3) * (3 * 4 * 4) * 16


def test_a_transposed_convolution_spreads_each_input() -> None:
    convolution = nn.ConvTranspose2d(3, 5, kernel_size=2, stride=2)
    pixels = torch.zeros(1, 3, 4, 4)
    assert count(lambda: convolution(pixels)).flops == 2 * (4 * 4) * 3 * (5 * 2 * 2)


def test_grouped_convolution_sees_its_own_channels_only() -> None:
    convolution = nn.Conv1d(8, 8, kernel_size=3, groups=4)
    values = torch.zeros(1, 8, 10)
    assert count(lambda: convolution(values)).flops == 2 * (8 * 8) * (2 * 3)


def test_flash_attention_by_rows_and_by_segments() -> None:
    query = torch.empty(2, 10, 4, 8)
    whole = {"query": query, "key": query, "value": query}
    formula = FORMULAS["aten::_flash_attention_forward"]
    assert formula(whole, query) == 4 * 2 * 4 * 10 * 10 * 8
    rows = query.reshape(20, 4, 8)
    ends = torch.tensor([0, 5, 20])
    packed = {"query": rows, "key": rows, "value": rows, "cum_seq_q": ends, "cum_seq_k": ends}
    assert formula(packed, rows) == 4 * 4 * 8 * (5 * 5 + 15 * 15)


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ("_scaled_dot_product_flash_attention", ()),
        ("_scaled_dot_product_efficient_attention", (None, False)),
        ("_scaled_dot_product_cudnn_attention", (None, False)),
    ],
)
def test_attention_kernels_of_a_gpu_have_formulas(kernel: str, options: tuple[object, ...]) -> None:
    query = torch.empty(2, 4, 10, 8, device="meta", dtype=torch.bfloat16)
    operator = getattr(torch.ops.aten, kernel)
    assert count(lambda: operator(query, query, query, *options)).flops == 4 * 2 * 4 * 10 * 10 * 8


@pytest.mark.gpu
@pytest.mark.parametrize("context", CONTEXTS)
def test_attention_on_a_gpu_costs_what_it_does_on_a_cpu(context: Context) -> None:
    query = torch.zeros(2, 4, 64, 64, device="cuda", dtype=torch.bfloat16)
    counter = count(lambda: functional.scaled_dot_product_attention(query, query, query), context)
    assert counter.flops == 4 * 2 * 4 * 64 * 64 * 64
    assert not counter.unknown


def test_int8_products_are_counted_as_dense_ones() -> None:
    left = torch.zeros(24, 32, dtype=torch.int8)
    right = torch.zeros(32, 16, dtype=torch.int8)
    assert count(lambda: torch._int_mm(left, right)).flops == 2 * 24 * 32 * 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 7])
def test_four_bit_layers_are_counted_as_dense_ones(rows: int, dtype: torch.dtype) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    layer = bitsandbytes.nn.Linear4bit(128, 64, compute_dtype=dtype, quant_type="nf4").to("cpu")
    values = torch.zeros(1, rows, 128, dtype=dtype)
    counter = count(lambda: layer(values))
    assert counter.flops == 2 * rows * 128 * 64
    assert not counter.unknown


def test_elementwise_work_is_free() -> None:
    values = torch.zeros(4, 8)
    norm = nn.LayerNorm(8)

    def work() -> torch.Tensor:
        return functional.softmax(functional.gelu(norm(values)) * 2 + 1, dim=-1).mean()

    counter = count(work)
    assert counter.flops == 0
    assert not counter.unknown


def test_a_product_that_nothing_is_known_of_is_named() -> None:
    values = torch.eye(4)
    counter = count(lambda: torch.linalg.inv_ex(values))
    assert counter.flops == 0
    assert set(counter.unknown) == {"aten::linalg_inv_ex"}


def test_a_product_in_place_is_no_view() -> None:
    assert not is_free(torch.ops.aten.addmm_.default)
    assert is_free(torch.ops.aten.view.default)
    assert is_free(torch.ops.aten.add_.Tensor)


def test_no_operator_is_both_free_and_counted() -> None:
    assert not FREE & FORMULAS.keys()


def test_the_weights_that_were_read_are_remembered() -> None:
    layer, embedding = nn.Linear(4, 4), nn.Embedding(10, 4)
    counter = count(lambda: layer(embedding(torch.tensor([3]))))
    assert set(counter.parameters) == {id(layer.weight), id(layer.bias)}


def test_a_grouped_product_counts_each_row_once() -> None:
    """Rows of several groups, each multiplied with the matrix of its group."""
    rows = torch.randn(24, 32, dtype=torch.bfloat16)
    matrices = torch.randn(3, 32, 16, dtype=torch.bfloat16)
    ends = torch.tensor([8, 8, 24], dtype=torch.int32)
    assert count(lambda: torch._grouped_mm(rows, matrices, offs=ends)).flops == 2 * 24 * 32 * 16


def test_a_triangular_system_takes_half_a_product() -> None:
    matrix, right = torch.eye(8).expand(3, 8, 8), torch.randn(3, 8, 5)
    counted = count(lambda: torch.linalg.solve_triangular(matrix, right, upper=False))
    assert counted.flops == 3 * 8 * 8 * 5
