"""The vision side of both BLIP-2 networks: a vision transformer, a Q-Former, a projection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import Blip2ForConditionalGeneration

from profiling.models.geometry import snap_side
from profiling.models.square import SquareLayout
from profiling.models.stand_ins import PassThrough, PassThroughAttended
from profiling.models.tower import PatchTower


class QueryTower(PatchTower):
    """The vision transformer, the Q-Former that attends to its output, and the projection."""

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
        states = self.norm(hidden)
        queries = self.query_tokens.expand(states.shape[0], -1, -1)
        answered = self.qformer(
            query_embeds=queries, encoder_hidden_states=states, return_dict=True
        ).last_hidden_state
        return self.projection(answered.to(states.dtype)).flatten(0, 1)  # type: ignore[no-any-return]


class Blip2Layout(SquareLayout):
    """What is outside the language model."""

    network_class = Blip2ForConditionalGeneration
    vision_parameters = ("query_tokens",)
    drafts_with_pictures = False
    whole_picture = "the Q-Former gives a fixed number of visual tokens for each picture"
    # The Q-Former has no such kernel, and requests the implementation for more than itself.
    flash_attention: ClassVar[str | dict[str, str]] = {
        "": "sdpa",
        "vision_config": "flash_attention_2",
        "qformer_config": "sdpa",
        "text_config": "flash_attention_2",
    }

    def generate_text(self, network: Any, **given: Any) -> Tensor:
        # The network's own generate encodes pictures in any case.
        ids, given = given["input_ids"], {**given}
        for name in ("interpolate_pos_encoding", *(["input_ids"] * self.encoder_decoder)):
            given.pop(name, None)
        embeddings = network.get_input_embeddings()(ids)
        generated: Tensor = network.language_model.generate(inputs_embeds=embeddings, **given)
        return generated

    @property
    def generating(self) -> str:
        # The network encodes the pictures, and has the language model generate.
        return self.parts.language

    def generate_options(self, side: int) -> dict[str, Any]:
        vision = self.config.vision_config
        resized = snap_side(side, int(vision.patch_size)) != vision.image_size
        return {"interpolate_pos_encoding": resized}

    def embed(self, network: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        pixels = inputs["pixel_values"]
        states = network.vision_model(
            pixel_values=pixels, return_dict=True, **self.generate_options(pixels.shape[-1])
        ).last_hidden_state
        answered = network.qformer(
            query_embeds=network.query_tokens.expand(len(states), -1, -1),
            encoder_hidden_states=states,
            encoder_attention_mask=torch.ones(
                states.shape[:-1], dtype=torch.long, device=states.device
            ),
            return_dict=True,
        ).last_hidden_state
        # The Q-Former stays in single precision where the rest is in half precision.
        return torch.cat(list(network.language_projection(answered.to(states.dtype))))

    def tower(self, network: Any) -> QueryTower:
        return QueryTower(network)

    def stand_ins(self, dtype: torch.dtype) -> dict[str, nn.Module | Tensor]:
        (queries,) = self.vision_parameters
        qformer, projection = self.parts.projector
        return {
            self.parts.vision: PassThrough(dtype=dtype),
            qformer: PassThroughAttended(),
            projection: nn.Identity(),
            queries: torch.empty(1, 0, 0),
        }
