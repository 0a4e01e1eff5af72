"""The libraries that store weights in fewer bits."""

from __future__ import annotations

BITSANDBYTES, TORCHAO = QUANTIZERS = ("bitsandbytes", "torchao")
