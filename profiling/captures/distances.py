"""How far what was found is from what was wanted, in the ways that verdicts are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Distance:
    """Of two arrays: the relative error of all values, and the largest error of one."""

    relative: float  # of the L2 norm
    largest: float  # in units of the largest value that was wanted


def distance(found: Tensor, wanted: Tensor) -> Distance:
    """Infinite where shapes differ, or where one is not finite and the other not the same."""
    if found.shape != wanted.shape:
        return Distance(relative=math.inf, largest=math.inf)
    if not wanted.numel():
        return Distance(relative=0.0, largest=0.0)
    a, b = found.double().flatten(), wanted.double().flatten()
    error = a - b
    if not bool(torch.isfinite(error).all()):
        finite = torch.isfinite(b)
        if not bool(_same_infinities(a[~finite], b[~finite])) or not a[finite].isfinite().all():
            return Distance(relative=math.inf, largest=math.inf)
        error, b = error[finite], b[finite]
        if not b.numel():
            return Distance(relative=0.0, largest=0.0)
    # What is zero everywhere has no scale of its own.
    scale, top = float(b.norm()) or 1.0, float(b.abs().max()) or 1.0
    return Distance(relative=float(error.norm()) / scale, largest=float(error.abs().max()) / top)


def _same_infinities(a: Tensor, b: Tensor) -> Tensor:
    return ((a == b) | (a.isnan() & b.isnan())).all()


def worst_elements(
    found: Tensor, wanted: Tensor, count: int, *, real: Tensor | None = None
) -> list[tuple[Sequence[int], float, float]]:
    """The elements that differ most: index, what was found, what was wanted.

    `real` says which elements count, where not all do.
    """
    if found.shape != wanted.shape or not wanted.numel():
        return []
    error = (found.double() - wanted.double()).abs().nan_to_num(nan=math.inf)
    if real is not None:
        error = error.masked_fill(~real, -1.0)
        count = min(count, int(real.expand_as(error).sum()))
    error = error.flatten()
    places = error.topk(min(count, error.numel())).indices
    rows = torch.stack(torch.unravel_index(places, wanted.shape), 1) if wanted.ndim else None
    return [
        (
            rows[i].tolist() if rows is not None else [],
            float(found.flatten()[place]),
            float(wanted.flatten()[place]),
        )
        for i, place in enumerate(places.tolist())
    ]
