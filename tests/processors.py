"""What differs from processor to processor, and how to make this one look like another."""

from __future__ import annotations

import pytest
import torch


def copies_weights_in_16_bits() -> bool:
    """Whether PyTorch copies the weight of a batched product in bfloat16.

    It does where it hands such products to oneDNN, which takes AVX-512 on x86.
    """
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def lack_bf16_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have bitsandbytes make layers as it does on a processor without AVX512-BF16."""
    for module in ("functional", "nn.modules"):
        monkeypatch.setattr(f"bitsandbytes.{module}.has_avx512bf16", lambda: 0)
