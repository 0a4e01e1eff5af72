"""Weights of linear layers in 4 bits; see docs/optimizations.md for which, and by which engine."""

from __future__ import annotations

import torch

from profiling.engines.transformers.optimizations.optimization import Quantized, dtype_of
from profiling.errors import Unsupported
from profiling.models.quantization import Quantization
from profiling.models.quantizers import TORCHAO
from profiling.points.point import Point

_OLDEST = (8, 0)


class Int4(Quantized):
    def __init__(self, *, kind: str, order: int, engine: str, double: bool) -> None:
        super().__init__(
            kind=kind,
            order=order,
            quantization=Quantization(bits=4, engine=engine, double=double),
        )

    def check(self, point: Point) -> None:
        super().check(point)
        if self.quantization.engine == TORCHAO and point.device.startswith("cuda"):
            _check_gpu(point)
        elif self.quantization.engine == TORCHAO and point.device != "cpu":
            raise Unsupported(f"torchao has no 4 bit kernels for device={point.device}")


def _check_gpu(point: Point) -> None:
    """What torchao's 4 bit kernels on GPUs can take."""
    dtype = dtype_of(point)
    if dtype != "bfloat16":
        raise Unsupported(f"torchao multiplies 4 bits on a GPU in bfloat16, not {dtype}: add bf16")
    capability = torch.cuda.get_device_capability(point.device)
    if capability < _OLDEST:
        found = ".".join(map(str, capability))
        raise Unsupported(f"torchao's 4 bits need a GPU of compute capability 8.0, not {found}")


OPTIMIZATION = Int4
