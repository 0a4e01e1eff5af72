"""Make this processor look like another one to a library that asks about it."""

from __future__ import annotations

import pytest


def lack_bf16_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have bitsandbytes make layers as it does on a processor without AVX512-BF16."""
    for module in ("functional", "nn.modules"):
        monkeypatch.setattr(f"bitsandbytes.{module}.has_avx512bf16", lambda: 0)
