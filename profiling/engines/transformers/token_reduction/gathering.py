"""Columns of a prompt that go on, and what belongs to them gathered from the whole prompt."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Columns(NamedTuple):
    """The columns that go on, in their order; a shorter row is filled on the left."""

    order: Tensor  # [B, L]
    valid: Tensor  # [B, L]: no filler


def select_columns(kept: Tensor) -> Columns:  # [B, S]
    """The kept columns of each row in their order."""
    length = int(kept.sum(dim=1).max())
    order = kept.int().argsort(dim=1, stable=True)[:, -length:]
    return Columns(order, kept.gather(1, order))


def gather_states(states: Tensor, order: Tensor) -> Tensor:  # [B or 1, S, D] -> [B, L, D]
    whole = states.expand(len(order), -1, -1)
    return whole.gather(1, order[..., None].expand(-1, -1, states.shape[-1]))


def gather_positions(positions: Tensor, order: Tensor) -> Tensor:  # [.., B or 1, S] -> [.., B, L]
    """Positions are gathered and never counted anew, on however many axes they are."""
    whole = positions.expand(*positions.shape[:-2], len(order), positions.shape[-1])
    return whole.gather(-1, order.expand(*whole.shape[:-1], -1))
