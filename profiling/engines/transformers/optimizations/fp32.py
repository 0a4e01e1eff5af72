"""Weights and arithmetic in single precision."""

from __future__ import annotations

import torch

from profiling.engines.transformers.optimizations.optimization import Precision


class Fp32(Precision):
    dtype = torch.float32


OPTIMIZATION = Fp32
