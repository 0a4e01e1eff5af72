"""Position embeddings to start from, for towers that learn one vector a place."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.families.family import Size

_SLOWEST, _FASTEST = 0.1, 2.0  # radians from one patch to the next
_SPREAD = 4.0  # patches have about 5, and drown anything much quieter


def wave_positions(grid: Size, width: int) -> Tensor:
    """[places, width]: sines and cosines of row and column.

    Unlike random vectors they are smooth, so a resized grid still means the same places, and a step
    to the neighbour is one rotation everywhere.
    """
    rows, columns = grid
    angles = torch.logspace(math.log10(_FASTEST), math.log10(_SLOWEST), width // 4)
    by_row = _waves(torch.arange(rows)[:, None] * angles)[:, None].expand(-1, columns, -1)
    by_column = _waves(torch.arange(columns)[:, None] * angles)[None].expand(rows, -1, -1)
    return _SPREAD * math.sqrt(2) * torch.cat([by_row, by_column], dim=-1).flatten(0, 1)


def _waves(angles: Tensor) -> Tensor:
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
