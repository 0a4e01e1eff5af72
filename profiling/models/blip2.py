"""What the BLIP-2 families share: a vision transformer, a Q-Former and a projection."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
)

from profiling.models import analytic
from profiling.models.geometry import Geometry, blank
from profiling.models.square import SquareFamily
from profiling.models.stand_ins import HandsOn, HandsOnSeen
from profiling.models.tower import PatchTower


class QueryTower(PatchTower):
    """The vision transformer, the Q-Former that asks it, and the projection."""

    def __init__(self, network: Any) -> None:
        vision = network.vision_model
        super().__init__(vision.encoder.layers, vision.embeddings.patch_embedding)
        self.embeddings, self.norm = vision.embeddings, vision.post_layernorm
        self.qformer, self.projection = network.qformer, network.language_projection
        self.query_tokens = network.query_tokens

    def class_token(self) -> Tensor:
        token: Tensor = self.embeddings.class_embedding
        return token.flatten()

    def positions(self) -> Tensor:
        positions: Tensor = self.embeddings.position_embedding
        return positions[0]

    def run_block(self, index: int, hidden: Tensor, *extras: Tensor) -> Tensor:
        return self.blocks[index](hidden)  # type: ignore[no-any-return]

    def finish(self, hidden: Tensor) -> Tensor:
        seen = self.norm(hidden)
        queries = self.query_tokens.expand(seen.shape[0], -1, -1)
        asked = self.qformer(
            query_embeds=queries, encoder_hidden_states=seen, return_dict=True
        ).last_hidden_state
        return self.projection(asked.to(seen.dtype)).flatten(0, 1)  # type: ignore[no-any-return]


class Blip2(SquareFamily):
    network_class = Blip2ForConditionalGeneration
    vision_values = ("query_tokens",)
    # The Q-Former has no such kernel and asks more than it reads.
    flash_attention: ClassVar[str | dict[str, str]] = {
        "": "sdpa",
        "vision_config": "flash_attention_2",
        "qformer_config": "sdpa",
        "text_config": "flash_attention_2",
    }

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

    def embed(self, network: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        pixels = inputs["pixel_values"]
        seen = network.vision_model(
            pixel_values=pixels, return_dict=True, **self.generate_options(pixels.shape[-1])
        ).last_hidden_state
        asked = network.qformer(
            query_embeds=network.query_tokens.expand(len(seen), -1, -1),
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(
                seen.shape[:-1], dtype=torch.long, device=seen.device
            ),
            return_dict=True,
        ).last_hidden_state
        # The Q-Former stays in single precision where the rest is in half.
        return torch.cat(list(network.language_projection(asked.to(seen.dtype))))

    def tower(self, network: Any) -> QueryTower:
        return QueryTower(network)

    def stand_ins(self, dtype: torch.dtype) -> dict[str, nn.Module | Tensor]:
        (queries,) = self.vision_values
        qformer, projection = self.parts.projector
        return {
            self.parts.vision: HandsOn(dtype=dtype),
            qformer: HandsOnSeen(),
            projection: nn.Identity(),
            queries: torch.empty(1, 0, 0),
        }

    def prompt_recipe(self) -> dict[str, Any]:
        return {**super().prompt_recipe(), "in_place": False}

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
