"""Weights and arithmetic in half precision."""

from __future__ import annotations

import torch

from profiling.engines.transformers.optimizations.optimization import Precision


class Fp16(Precision):
    dtype = torch.float16


OPTIMIZATION = Fp16
