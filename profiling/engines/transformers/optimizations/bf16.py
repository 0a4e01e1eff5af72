"""Weights and arithmetic in brain-float precision."""

from __future__ import annotations

import torch

from profiling.engines.transformers.optimizations.optimization import Precision


class Bf16(Precision):
    dtype = torch.bfloat16


OPTIMIZATION = Bf16
