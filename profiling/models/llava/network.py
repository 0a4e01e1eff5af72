"""The layout of LLaVA-1.5's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from profiling.models.attention_tap import tap_attention
from profiling.models.encoder_scores import EncoderScores
from profiling.models.network import Parts, force_option
from profiling.models.scaled_inputs import ScaledInput, gated_layers
from profiling.models.square import SquareLayout
from profiling.models.stand_ins import PassThroughLayers
from profiling.models.tower import PatchTower


class ClipTower(PatchTower):
    """The CLIP layers up to the one whose output is read, and the projector."""

    def __init__(
        self, *, tower: nn.Module, projector: nn.Module, layer: int, left_out: int
    ) -> None:
        # Some versions of the library have the tower one level deeper.
        inner: Any = getattr(tower, "vision_model", tower)
        layers = inner.encoder.layers
        # There is one state more than layers: the input of the first layer is a state too.
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


class ClassTokenScores(EncoderScores):
    """What the class token attends to in the layer whose output is read."""

    def __init__(self, *, network: Any, layer: int, left_out: int) -> None:
        super().__init__()
        self.left_out = left_out
        # Some versions of the library have the tower one level deeper.
        inner: Any = getattr(network.model.vision_tower, "vision_model", network.model.vision_tower)
        read = layer if layer < 0 else layer - 1
        tap_attention(inner.encoder.layers[read].self_attn, self._look)

    def _look(self, query: Tensor, key: Tensor, scaling: float) -> None:
        products = query[:, :, :1].float() @ key.float().transpose(-1, -2) * scaling
        scores = products.softmax(dim=-1).mean(dim=1)[:, 0]
        self.parts.append(scores[:, self.left_out :])

    def by_picture(self, inputs: Mapping[str, Any]) -> list[Tensor]:
        return list(torch.cat(self.parts))


class LlavaLayout(SquareLayout):
    """CLIP, a projector of two layers, Llama."""

    parts = Parts(
        vision="model.vision_tower",
        projector=("model.multi_modal_projector",),
        language="model.language_model",
        head="lm_head",
        text_encoder=None,
    )
    network_class = LlavaForConditionalGeneration
    encoder_attends = True

    def adapt(self, network: nn.Module) -> None:
        # `generate` does not pass this on; at the tower's native size it changes nothing.
        force_option(network.get_submodule(self.parts.vision), interpolate_pos_encoding=True)

    def scaled_inputs(self, network: Any) -> list[ScaledInput]:
        return gated_layers(
            self.layer_paths(f"{self.decoder}.layers", network),
            heads=int(self.config.text_config.num_attention_heads),
            kept=self.cache_shape.heads,
            width=self.cache_shape.width,
        )

    def embed(self, network: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        features = network.model.get_image_features(inputs["pixel_values"]).pooler_output
        return torch.cat(list(features))

    def read_encoder(self, network: Any) -> ClassTokenScores:
        return ClassTokenScores(
            network=network,
            layer=int(self.config.vision_feature_layer),
            left_out=self._left_out,
        )

    def tower(self, network: Any) -> ClipTower:
        return ClipTower(
            tower=network.get_submodule(self.parts.vision),
            projector=network.get_submodule(self.parts.projector[0]),
            layer=int(self.config.vision_feature_layer),
            left_out=self._left_out,
        )

    def stand_ins(self, dtype: torch.dtype) -> dict[str, nn.Module | Tensor]:
        (projector,) = self.parts.projector
        layers = int(self.config.vision_config.num_hidden_layers)
        tower = PassThroughLayers(dtype=dtype, layers=layers, left_out=self._left_out)
        return {self.parts.vision: tower, projector: nn.Identity()}

    @property
    def _left_out(self) -> int:
        """The tokens before the patches that the projector does not get: the class token."""
        return int(self.config.vision_feature_select_strategy == "default")
