"""What quantized layers compute in: what is said, and what a product shows."""

from __future__ import annotations

import bitsandbytes
import pytest
import torch
from torch import nn

from profiling.models.quantization import Quantization, computes_in, quantize_in_place
from profiling.models.quantizers import TORCHAO
from tests.processors import lack_bf16_instructions

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)
FOUR = Quantization(bits=4)


def test_a_plain_network_computes_in_its_dtype() -> None:
    assert computes_in(torch.float32, CPU) == "float32"
    assert computes_in(torch.bfloat16, GPU) == "bfloat16"


@pytest.mark.parametrize(("has_bf16", "said"), [(1, "; quantized layers bfloat16"), (0, "")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_4_bits_on_a_cpu_depend_on_its_instructions(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, has_bf16: int, said: str
) -> None:
    monkeypatch.setattr("bitsandbytes.functional.has_avx512bf16", lambda: has_bf16)
    name = str(dtype).removeprefix("torch.")
    assert computes_in(dtype, CPU, FOUR) == f"{name}{said}"


def test_4_bits_compute_in_what_is_asked_for_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitsandbytes.functional.has_avx512bf16", lambda: 1)
    assert computes_in(torch.float16, GPU, FOUR) == "float16"
    assert computes_in(torch.float32, CPU, Quantization(bits=4, engine=TORCHAO)) == "float32"
    assert computes_in(torch.bfloat16, CPU, FOUR) == "bfloat16"


def test_8_bits_round_the_activations_too() -> None:
    assert computes_in(torch.float32, CPU, Quantization(bits=8)) == "float32; quantized layers int8"
    assert computes_in(torch.float32, CPU, Quantization(bits=8, engine=TORCHAO)) == "float32"


def product_error(quantization: Quantization) -> float:
    """Of a quantized layer in float32, relative to the exact product with its own weights."""
    torch.manual_seed(0)
    network = nn.ModuleDict({"layer": nn.Linear(64, 32, bias=False)}).eval()
    quantize_in_place(network, ["layer"], quantization, torch.float32)
    weight = network["layer"].weight
    if quantization.bits == 4:
        dense = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
    else:
        dense = weight.data * weight.SCB.unsqueeze(1) / 127
    given = torch.randn(8, 64)
    with torch.inference_mode():
        found, exact = network["layer"](given), given @ dense.T
    return float((found - exact).norm() / exact.norm())


LARGEST_ERROR = {"float32": 1e-5, "bfloat16": 0.02, "int8": 0.05}
LEAST_ERROR = {"float32": 0.0, "bfloat16": 5e-4, "int8": 1e-3}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("lacks_bf16", [False, True])
def test_what_is_said_is_what_a_product_shows(
    bits: int, lacks_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacks_bf16:
        lack_bf16_instructions(monkeypatch)
    quantization = Quantization(bits=bits)
    said = computes_in(torch.float32, CPU, quantization).split()[-1]
    assert LEAST_ERROR[said] <= product_error(quantization) <= LARGEST_ERROR[said]
