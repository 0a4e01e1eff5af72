"""Activation outliers, as large models have them, put into a network whose function stays."""

from __future__ import annotations

from typing import Any

import torch

from profiling.models.family import Family


def plant_outliers(network: Any, family: Family, *, factor: float, count: int, seed: int) -> int:
    """Let norms give `count` of their channels `factor` times as large, and divide what reads them.

    Gives how many norms there are.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = [
        one
        for one in family.layout.scaled_inputs(network)
        if network.get_submodule(one.before).weight.ndim == 1
    ]
    for one in inputs:
        scales = torch.ones(len(network.get_submodule(one.before).weight))
        scales[torch.randperm(len(scales), generator=generator)[:count]] = 1 / factor
        one.multiply(network, scales)
        one.absorb(network, scales)
    return len(inputs)
