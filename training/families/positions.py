"""Initial position embeddings for towers with one learned vector per place."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.families.family import Size

_SLOWEST, _FASTEST = 0.1, 2.0  # radians from one patch to the next
_SPREAD = 4.0  # patches have about 5; much smaller positions have no effect


def wave_positions(grid: Size, width: int) -> Tensor:
    """[places, width]: sines and cosines of row and column.

    Unlike random vectors they are smooth, so they can be resized to another grid, and a step to the
    neighbouring patch is the same rotation everywhere.
    """
    rows, columns = grid
    angles = torch.logspace(math.log10(_FASTEST), math.log10(_SLOWEST), width // 4)
    by_row = _waves(torch.arange(rows)[:, None] * angles)[:, None].expand(-1, columns, -1)
    by_column = _waves(torch.arange(columns)[:, None] * angles)[None].expand(rows, -1, -1)
    return _SPREAD * math.sqrt(2) * torch.cat([by_row, by_column], dim=-1).flatten(0, 1)


def _waves(angles: Tensor) -> Tensor:
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
