"""What the vision side of both BLIP-2 families costs."""

from __future__ import annotations

from typing import Any

from profiling.models import analytic
from profiling.models.geometry import Geometry, blank
from profiling.models.square import SquareCosts


class Blip2Costs(SquareCosts):
    """The Q-Former's queries attend to one another and to the picture."""

    def vision_inputs(self, geometry: Geometry) -> dict[str, Any]:
        width, height = geometry.sizes[0]
        return {
            "pixel_values": blank(geometry.batch_size, 3, height, width),
            "interpolate_pos_encoding": height != self.config.vision_config.image_size,
        }

    def projector_inputs(self, geometry: Geometry) -> list[dict[str, Any]]:
        (patches,) = set(geometry.patches(self.patch))
        batch, queries = geometry.batch_size, self.config.num_query_tokens
        width = self.config.qformer_config.hidden_size
        states = blank(batch, patches + 1, self.config.vision_config.hidden_size)
        return [
            {"query_embeds": blank(batch, queries, width), "encoder_hidden_states": states},
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
            stack.forward(queries, queries)
            + self._cross_attention(queries, patches + 1)
            + projection
            for patches in geometry.patches(self.patch)
        )

    def _cross_attention(self, queries: int, states: int) -> int:
        """The queries' attention to the picture, in every layer that has it."""
        qformer = self.config.qformer_config
        width = int(qformer.hidden_size)
        layers = -(-qformer.num_hidden_layers // qformer.cross_attention_frequency)
        one = 2 * analytic.linear(queries, width, width)
        one += 2 * analytic.linear(states, qformer.encoder_hidden_size, width)
        return int(layers * (one + analytic.attention(queries, states, width)))
