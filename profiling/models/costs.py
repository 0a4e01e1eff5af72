"""The costs of a family: the shapes its parts are called with, and analytic FLOP counts.

Both are written independently of each other, because tests compare one with the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from profiling.models import analytic
from profiling.models.geometry import Geometry

HEAD = "head"


class FamilyCosts(ABC):
    """What a batch of a given geometry calls the parts with, and what each phase computes."""

    # Why operators are counted on the running network; None where a twin without values serves.
    counted_running: ClassVar[str | None] = None
    feed_forward_matrices: ClassVar[int] = 3  # of a decoder layer: 3 where it is gated, else 2

    def __init__(self, *, config: Any):
        self.config = config

    # Arguments of the parts, as tensors without values

    @abstractmethod
    def vision_inputs(self, geometry: Geometry) -> dict[str, Any]:
        """The arguments of the vision part."""

    def projector_inputs(self, geometry: Geometry) -> list[dict[str, Any]]:
        """The arguments of each module of the projector."""
        return []

    def decoder_inputs(self, geometry: Geometry, rows: int, columns: int) -> dict[str, Any]:
        """The arguments of the decoder besides embeddings and cache."""
        return {}

    # FLOPs by arithmetic

    @abstractmethod
    def vision_flops(self, geometry: Geometry) -> int:
        """The vision part without a projector inside it."""

    def projector_flops(self, geometry: Geometry) -> int:
        return 0

    def text_encoder_flops(self, geometry: Geometry) -> int:
        return 0

    @cached_property
    def decoder_stack(self) -> analytic.Stack:
        text = self.config.text_config
        heads = int(text.num_attention_heads)
        head_width = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
        return analytic.Stack(
            layers=int(text.num_hidden_layers),
            width=int(text.hidden_size),
            query_width=heads * head_width,
            key_width=int(getattr(text, "num_key_value_heads", heads)) * head_width,
            inner_width=int(getattr(text, "ffn_dim", None) or text.intermediate_size),
            inner_matrices=self.feed_forward_matrices,
        )

    @property
    def reading_stack(self) -> analytic.Stack:
        """The layers that read the whole prompt, visual tokens included."""
        return self.decoder_stack

    def prefill_terms(self, geometry: Geometry) -> dict[str, int]:
        """The first forward of the language model, its head at the last position only."""
        layers = Counter[str]()
        for count, length in geometry.stages(self.decoder_stack.layers):
            layers.update(replace(self.decoder_stack, layers=count).terms(length, length))
        every_row = {what: geometry.batch_size * flops for what, flops in layers.items()}
        return {**every_row, HEAD: self.head_flops(geometry)}

    def prefill_flops(self, geometry: Geometry) -> int:
        return sum(self.prefill_terms(geometry).values())

    def decode_step_flops(self, geometry: Geometry, step: int) -> int:
        """The forward that computes new token `step` + 1 from the one before."""
        one = sum(
            replace(self.decoder_stack, layers=count).forward(1, length + step)
            for count, length in geometry.stages(self.decoder_stack.layers)
        )
        return geometry.batch_size * one + self.head_flops(geometry)

    def widest_rows(self, geometry: Geometry) -> int:
        """An estimate of the values that are alive at the widest place of the prefill.

        The residual stream twice, and the inner values of the feed-forward part, of all tokens;
        attention by blocks holds no matrix of scores.
        """
        stack = self.reading_stack
        longest = max(length for layers, length in geometry.stages(stack.layers) if layers)
        rows = geometry.batch_size * longest
        return rows * (2 * stack.width + (stack.inner_matrices - 1) * stack.inner_width)

    def head_flops(self, geometry: Geometry) -> int:
        text = self.config.text_config
        return analytic.linear(geometry.batch_size, int(text.hidden_size), int(text.vocab_size))
