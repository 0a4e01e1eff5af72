"""Attention by the flash-attn package's kernels, where a family's parts can take them."""

from __future__ import annotations

import dataclasses

from profiling.engines.transformers.optimizations.optimization import (
    Optimization,
    dtype_of,
    require_package,
)
from profiling.errors import Unsupported
from profiling.models.loading import LoadPlan, find_family
from profiling.points.point import Point

_HALVES = ("float16", "bfloat16")


class FlashAttn(Optimization):
    """Asked for when the network is made; the library then takes these kernels or raises."""

    def __init__(self, *, kind: str, order: int) -> None:
        super().__init__(kind=kind, order=order)
        self.model = ""

    def check(self, point: Point) -> None:
        if not point.device.startswith("cuda"):
            raise Unsupported(f"flash attention needs a GPU, and the device is {point.device}")
        require_package("flash_attn", "requirements-flash-attn.txt")
        dtype = dtype_of(point)
        if dtype not in _HALVES:
            raise Unsupported(f"flash attention does not compute in {dtype}: add fp16 or bf16")
        self.model = point.model

    def plan(self, plan: LoadPlan) -> LoadPlan:
        wanted = find_family(self.model).layout.flash_attention
        options = {**plan.options, "attn_implementation": wanted}
        return dataclasses.replace(plan, options=options)


OPTIMIZATION = FlashAttn
