"""LLaVA-1.5: a CLIP tower, a two-layer projector and a Llama decoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
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
