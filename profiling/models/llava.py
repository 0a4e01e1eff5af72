"""LLaVA-1.5: a CLIP tower, a two-layer projector and a Llama decoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from profiling.models import analytic
from profiling.models.family import Parts, with_forced_option
from profiling.models.geometry import Geometry, blank
from profiling.models.square import SquareFamily
from profiling.models.stand_ins import HandsOnLayers
from profiling.models.tower import PatchTower


class ClipTower(PatchTower):
    """Only the layers up to the one whose output is read: what comes behind is never looked at."""

    def __init__(
        self, *, tower: nn.Module, projector: nn.Module, layer: int, left_out: int
    ) -> None:
        # The library has had the tower one level deeper.
        inner: Any = getattr(tower, "vision_model", tower)
        layers = inner.encoder.layers
        # The states are one more than the layers, since the input of the first is one of them.
        read = layer if layer >= 0 else len(layers) + 1 + layer
        super().__init__(layers[:read], inner.embeddings.patch_embedding)
        self.embeddings, self.norm = inner.embeddings, inner.pre_layrnorm
        self.projector, self.left_out = projector, left_out

    def class_token(self) -> Tensor:
        token: Tensor = self.embeddings.class_embedding
        return token

    def positions(self) -> Tensor:
        positions: Tensor = self.embeddings.position_embedding.weight
        return positions

    def before_blocks(self, hidden: Tensor) -> Tensor:
        return self.norm(hidden)  # type: ignore[no-any-return]

    def run_block(self, index: int, hidden: Tensor, *extras: Tensor) -> Tensor:
        return self.blocks[index](hidden, attention_mask=None)  # type: ignore[no-any-return]

    def finish(self, hidden: Tensor) -> Tensor:
        return self.projector(hidden[:, self.left_out :]).flatten(0, 1)  # type: ignore[no-any-return]


class Llava(SquareFamily):
    parts = Parts(
        vision="model.vision_tower",
        projector=("model.multi_modal_projector",),
        language="model.language_model",
        head="lm_head",
        text_encoder=None,
    )
    network_class = LlavaForConditionalGeneration

    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        return LlavaProcessor(
            image_processor=CLIPImageProcessorPil.from_pretrained(folder, **options),
            tokenizer=AutoTokenizer.from_pretrained(folder, **options),
            patch_size=self.config.vision_config.patch_size,
            vision_feature_select_strategy=self.config.vision_feature_select_strategy,
            # CLIP's class token is counted here and taken off again by the "default" strategy.
            num_additional_image_tokens=1,
        )

    def adapt_network(self, network: nn.Module) -> None:
        # `generate` has no way to pass this on; at the tower's own size it changes nothing.
        with_forced_option(network.get_submodule(self.parts.vision), interpolate_pos_encoding=True)

    def sizing(self, side: int) -> dict[str, Any]:
        return {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}

    def render(self, question: str) -> str:
        return f"USER: <image>\n{question} ASSISTANT:"

    def embed(self, network: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        features = network.model.get_image_features(inputs["pixel_values"]).pooler_output
        return torch.cat(list(features))

    def tower(self, network: Any) -> ClipTower:
        return ClipTower(
            tower=network.get_submodule(self.parts.vision),
            projector=network.get_submodule(self.parts.projector[0]),
            layer=int(self.config.vision_feature_layer),
            left_out=int(self.config.vision_feature_select_strategy == "default"),
        )

    def stand_ins(self, dtype: torch.dtype) -> dict[str, nn.Module | Tensor]:
        (projector,) = self.parts.projector
        leaves_out = self.config.vision_feature_select_strategy == "default"
        layers = int(self.config.vision_config.num_hidden_layers)
        tower = HandsOnLayers(dtype=dtype, layers=layers, left_out=int(leaves_out))
        return {self.parts.vision: tower, projector: nn.Identity()}

    def picture_recipe(self, side: int) -> dict[str, Any]:
        return {**super().picture_recipe(side), "fit": "crop"}

    def vision_inputs(self, geometry: Geometry) -> dict[str, Any]:
        width, height = geometry.sizes[0]
        pixels = blank(geometry.batch_size, 3, height, width)
        return {"pixel_values": pixels, "interpolate_pos_encoding": True}

    def projector_inputs(self, geometry: Geometry) -> list[dict[str, Any]]:
        (patches,) = set(geometry.patches(self.multiple))
        width = int(self.config.vision_config.hidden_size)
        return [{"image_features": blank(geometry.batch_size, patches, width)}]

    def projector_flops(self, geometry: Geometry) -> int:
        rows = sum(geometry.patches(self.multiple))
        seen, read = self.config.vision_config.hidden_size, self.config.text_config.hidden_size
        return analytic.linear(rows, seen, read) + analytic.linear(rows, read, read)


FAMILY = Llava
