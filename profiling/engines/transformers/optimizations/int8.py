"""Weights of linear layers in 8 bits; see docs/optimizations.md for which, and by which engine."""

from __future__ import annotations

from profiling.engines.transformers.optimizations.optimization import Quantized
from profiling.models.quantization import Quantization


class Int8(Quantized):
    def __init__(self, *, kind: str, order: int, engine: str, outlier_threshold: float) -> None:
        super().__init__(
            kind=kind,
            order=order,
            quantization=Quantization(bits=8, engine=engine, outlier_threshold=outlier_threshold),
        )


OPTIMIZATION = Int8
