"""Weights of linear layers in 4 bits, by bitsandbytes; see docs/optimizations.md for which."""

from __future__ import annotations

from profiling.models.quantization import Quantization
from profiling.optimizations.optimization import Quantized


class Int4(Quantized):
    def __init__(self, *, kind: str, order: int, double: bool) -> None:
        super().__init__(
            kind=kind,
            order=order,
            quantization=Quantization(bits=4, double=double),
        )


OPTIMIZATION = Int4
