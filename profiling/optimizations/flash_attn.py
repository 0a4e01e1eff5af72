"""Attention by the flash-attn package's kernels, where a family's parts can take them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from profiling.models.loading import LoadPlan, find_family
from profiling.models.weights import locate
from profiling.optimizations.optimization import Optimization, Unsupported, require_package
from profiling.point import Point

_HALVES = ("float16", "bfloat16")
_OF_STACK = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


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
        wanted = find_family(self.model).flash_attention
        options = {**plan.options, "attn_implementation": wanted}
        return dataclasses.replace(plan, options=options)


def dtype_of(point: Point) -> str:
    """What a point computes in, as far as that is known without fetching anything."""
    for name, dtype in _OF_STACK.items():
        if name in point.optimization:
            return dtype
    config = Path(locate(point).config) / "config.json"
    if point.weights == "random" or not config.is_file():
        return point.public_dtype
    values = json.loads(config.read_text(encoding="utf-8"))
    return str(values.get("dtype") or values.get("torch_dtype") or "float32")


OPTIMIZATION = FlashAttn
