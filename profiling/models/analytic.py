"""Arithmetic of what transformers cost, from their configuration alone."""

from __future__ import annotations

from dataclasses import dataclass


def linear(rows: int, width_in: int, width_out: int) -> int:
    """A matrix product: a multiplication and an addition for each pair."""
    return 2 * rows * width_in * width_out


def attention(rows: int, columns: int, width: int) -> int:
    """Scores and weighted sum of all heads together, nothing left out for being masked."""
    return 2 * linear(rows, width, columns)


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Equal transformer layers, as far as their products go."""

    layers: int
    width: int
    query_width: int
    key_width: int
    inner_width: int
    inner_matrices: int  # 2, or 3 where the feed-forward part is gated

    def rows(self, rows: int) -> int:
        """Everything that is done to each token by itself."""
        projections = 2 * linear(rows, self.width, self.query_width)
        projections += 2 * linear(rows, self.width, self.key_width)
        inner = self.inner_matrices * linear(rows, self.width, self.inner_width)
        return self.layers * (projections + inner)

    def attend(self, rows: int, columns: int) -> int:
        """What each of `rows` tokens does with `columns` others."""
        return self.layers * attention(rows, columns, self.query_width)

    def forward(self, rows: int, columns: int) -> int:
        return self.rows(rows) + self.attend(rows, columns)


def encoder(*, layers: int, width: int, inner_width: int, inner_matrices: int) -> Stack:
    """A stack whose heads together are as wide as it is."""
    return Stack(
        layers=layers,
        width=width,
        query_width=width,
        key_width=width,
        inner_width=inner_width,
        inner_matrices=inner_matrices,
    )
