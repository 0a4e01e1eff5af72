"""How much a vision encoder attends to each visual token, read while it encodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class EncoderScores:
    """What the calls of one attention module gave since the last start.

    A family says which module it is, what of its attention counts, and how the parts make scores.
    """

    def __init__(self) -> None:
        self.parts: list[Tensor] = []

    def start(self) -> None:
        self.parts = []

    def by_picture(self, inputs: Mapping[str, Any]) -> list[Tensor]:
        """A score for each visual token of each picture, in the order of the prompt."""
        raise NotImplementedError
