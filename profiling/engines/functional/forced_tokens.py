"""Has a generation choose the tokens of references, and says how likely the model found them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from profiling.models.greedy import to_host


class ForcedTokens:
    """In the place of the likeliest token: each row's own reference, one token after another."""

    def __init__(self, references: Sequence[Sequence[int]], *, keep: bool = False) -> None:
        self._references, self._keep = references, keep
        self._nats: list[list[float]] = [[] for _ in references]
        self._kept: list[numpy.ndarray] = []

    @property
    def longest(self) -> int:
        return max(map(len, self._references))

    def choose(self, logits: Any, *_: Any) -> numpy.ndarray:  # [B, V] -> [B]
        step = len(self._nats[0])
        # A row that has ended repeats its last token until the longest has.
        tokens = numpy.asarray([ids[min(step, len(ids) - 1)] for ids in self._references])
        held = to_host(logits)
        if self._keep:
            self._kept.append(held.astype(numpy.float32))
        scores = held.astype(numpy.float64)
        top = scores.max(axis=-1, keepdims=True)
        totals = numpy.log(numpy.exp(scores - top).sum(axis=-1)) + top[:, 0]
        costs = totals - scores[numpy.arange(len(tokens)), tokens]
        for nats, cost in zip(self._nats, costs.tolist(), strict=True):
            nats.append(cost)
        return tokens

    def means(self) -> list[float | None]:
        """Nats a token of each reference; None where the model gave no numbers."""
        pairs = zip(self._nats, self._references, strict=True)
        totals = [(math.fsum(nats[: len(ids)]), len(ids)) for nats, ids in pairs]
        return [total / count if math.isfinite(total) else None for total, count in totals]

    def logits(self) -> list[numpy.ndarray]:
        """Those [T, V] of each row at its own tokens, where they were to be kept."""
        pairs = enumerate(self._references)
        return [numpy.stack([step[row] for step in self._kept[: len(ids)]]) for row, ids in pairs]
