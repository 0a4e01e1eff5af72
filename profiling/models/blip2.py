"""What the BLIP-2 families share: a vision transformer, a Q-Former and a projection."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import (
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
)

from profiling.models import analytic
from profiling.models.geometry import Geometry, blank
from profiling.models.square import SquareFamily


class Blip2(SquareFamily):
    network_class = Blip2ForConditionalGeneration

    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        # Without the number of queries the processor writes no placeholder, and the picture
        # would be left out without a word.
        return Blip2Processor(
            image_processor=BlipImageProcessorPil.from_pretrained(folder, **options),
            tokenizer=AutoTokenizer.from_pretrained(folder, **options),
            num_query_tokens=self.config.num_query_tokens,
        )

    def render(self, question: str) -> str:
        return f"Question: {question} Answer:"

    def sizing(self, side: int) -> dict[str, Any]:
        return {"size": {"height": side, "width": side}}

    def generate_options(self, side: int) -> dict[str, Any]:
        own = self.config.vision_config.image_size
        return {"interpolate_pos_encoding": self.seen_side(side) != own}

    def vision_inputs(self, geometry: Geometry) -> dict[str, Any]:
        width, height = geometry.sizes[0]
        pixels = blank(geometry.batch_size, 3, height, width)
        return {"pixel_values": pixels, **self.generate_options(height)}

    def projector_inputs(self, geometry: Geometry) -> list[dict[str, Any]]:
        (patches,) = set(geometry.patches(self.multiple))
        batch, queries = geometry.batch_size, self.config.num_query_tokens
        width = self.config.qformer_config.hidden_size
        seen = blank(batch, patches + 1, self.config.vision_config.hidden_size)
        return [
            {"query_embeds": blank(batch, queries, width), "encoder_hidden_states": seen},
            {"input": blank(batch, queries, width)},
        ]

    def projector_flops(self, geometry: Geometry) -> int:
        qformer, queries = self.config.qformer_config, int(self.config.num_query_tokens)
        stack = analytic.encoder(
            layers=int(qformer.num_hidden_layers),
            width=int(qformer.hidden_size),
            inner_width=int(qformer.intermediate_size),
            inner_matrices=2,
        )
        projection = analytic.linear(queries, stack.width, self.config.text_config.hidden_size)
        return sum(
            stack.forward(queries, queries) + self._looking(queries, patches + 1) + projection
            for patches in geometry.patches(self.multiple)
        )

    def _looking(self, queries: int, seen: int) -> int:
        """The queries' attention to the picture, in every layer that has one."""
        qformer = self.config.qformer_config
        width = int(qformer.hidden_size)
        layers = -(-qformer.num_hidden_layers // qformer.cross_attention_frequency)
        one = 2 * analytic.linear(queries, width, width)
        one += 2 * analytic.linear(seen, qformer.encoder_hidden_size, width)
        return int(layers * (one + analytic.attention(queries, seen, width)))
