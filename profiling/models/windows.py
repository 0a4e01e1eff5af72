"""Which patches attend to one another in a windowed vision transformer, as indices for a graph.

A standalone folder gets a copy of this file, so it imports numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

Indices = dict[str, NDArray[numpy.generic]]


def attention_indices(grids: Sequence[Sequence[int]], *, merge: int, window: int) -> Indices:
    """Indices for pictures of (frames, rows, columns) patches each, in the processor's order.

    `window` is the side of a window in merged patches. Tokens keep their order: each layer gathers
    them into padded windows (or whole frames) and scatters them back. That equals sorting them
    once, because attention does not depend on the order.
    """
    places, windows, frames, count, start = [], [], [], 0, 0
    for frame_count, rows, columns in grids:
        row, column, inner_row, inner_column = _patch_places(rows, columns, merge)
        across = -(-(columns // merge) // window)
        number = (row // window) * across + column // window
        place = (row % window) * window + column % window
        slot = (place * merge + inner_row) * merge + inner_column
        place_in_picture = numpy.stack([row * merge + inner_row, column * merge + inner_column], -1)
        for _ in range(frame_count):
            places.append(place_in_picture)
            windows.append((count + number) * (window * merge) ** 2 + slot)
            count += -(-(rows // merge) // window) * across
            frames.append((start, rows * columns))
            start += rows * columns
    return {
        "positions": numpy.concatenate(places),
        **_padded("window", numpy.concatenate(windows), count, (window * merge) ** 2),
        **_padded("frame", _frame_slots(frames), len(frames), max(size for _, size in frames)),
    }


def _patch_places(rows: int, columns: int, merge: int) -> list[NDArray[numpy.int64]]:
    """Row and column of each patch's block, and of the patch in its block."""
    sides = (rows // merge, columns // merge, merge, merge)
    return [axis.ravel() for axis in numpy.meshgrid(*map(numpy.arange, sides), indexing="ij")]


def _frame_slots(frames: Sequence[tuple[int, int]]) -> NDArray[numpy.int64]:
    longest = max(size for _, size in frames)
    return numpy.concatenate(
        [number * longest + numpy.arange(size) for number, (_, size) in enumerate(frames)]
    )


def _padded(name: str, slots: NDArray[numpy.int64], count: int, size: int) -> Indices:
    """From each token's slot: the token in each slot, whether a slot is taken, and the slots."""
    gather = numpy.zeros(count * size, numpy.int64)
    taken = numpy.zeros(count * size, numpy.bool_)
    gather[slots] = numpy.arange(len(slots))
    taken[slots] = True
    return {
        f"{name}_gather": gather.reshape(count, size),
        f"{name}_mask": taken.reshape(count, size),
        f"{name}_scatter": slots.astype(numpy.int64),
    }
