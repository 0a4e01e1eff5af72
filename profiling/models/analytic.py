"""FLOPs of transformer layers by arithmetic from their configuration."""

from __future__ import annotations

from dataclasses import dataclass

# What the matrix products of a layer are for.
QUERY_OUTPUT = "query and output"
KEY_VALUE = "key and value"
ATTENTION = "scores and weighted sum"
FEED_FORWARD = "feed-forward"


def linear(rows: int, width_in: int, width_out: int) -> int:
    """A matrix product: one multiplication and one addition for each pair of numbers."""
    return 2 * rows * width_in * width_out


def attention(rows: int, columns: int, width: int) -> int:
    """Scores and weighted sum of all heads together; masked positions are counted too."""
    return 2 * linear(rows, width, columns)


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The matrix products of equal transformer layers."""

    layers: int
    width: int
    query_width: int
    key_width: int
    inner_width: int
    inner_matrices: int  # 2, or 3 where the feed-forward part is gated

    def terms(self, rows: int, columns: int) -> dict[str, int]:
        """Every matrix product of `rows` tokens that attend to `columns` tokens, by what it is."""
        products = {
            QUERY_OUTPUT: 2 * linear(rows, self.width, self.query_width),
            KEY_VALUE: 2 * linear(rows, self.width, self.key_width),
            ATTENTION: attention(rows, columns, self.query_width),
            FEED_FORWARD: self.inner_matrices * linear(rows, self.width, self.inner_width),
        }
        return {what: self.layers * flops for what, flops in products.items()}

    def rows(self, rows: int) -> int:
        """Everything that is computed for each token separately."""
        return sum(self.terms(rows, 0).values())

    def attend(self, rows: int, columns: int) -> int:
        """The attention of `rows` tokens to `columns` tokens."""
        return self.layers * attention(rows, columns, self.query_width)

    def forward(self, rows: int, columns: int) -> int:
        return self.rows(rows) + self.attend(rows, columns)


def encoder(*, layers: int, width: int, inner_width: int, inner_matrices: int) -> Stack:
    """A stack whose heads together have its width."""
    return Stack(
        layers=layers,
        width=width,
        query_width=width,
        key_width=width,
        inner_width=inner_width,
        inner_matrices=inner_matrices,
    )
