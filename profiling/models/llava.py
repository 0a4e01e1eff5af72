"""LLaVA-1.5: a CLIP tower, a two-layer projector and a Llama decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from profiling.models import analytic
from profiling.models.family import Family, Parts, with_forced_option
from profiling.models.geometry import Geometry, blank


class Llava(Family):
    parts = Parts(
        vision="model.vision_tower",
        projector=("model.multi_modal_projector",),
        language="model.language_model",
        head="lm_head",
        text_encoder=None,
    )
    network_class = LlavaForConditionalGeneration
    keeps_aspect_ratio = False

    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        return LlavaProcessor(
            image_processor=CLIPImageProcessorPil.from_pretrained(folder, **options),
            tokenizer=AutoTokenizer.from_pretrained(folder, **options),
            patch_size=self.config.vision_config.patch_size,
            vision_feature_select_strategy=self.config.vision_feature_select_strategy,
            # CLIP's class token is counted here and taken off again by the "default" strategy.
            num_additional_image_tokens=1,
        )

    @property
    def multiple(self) -> int:
        return int(self.config.vision_config.patch_size)

    def adapt_network(self, network: nn.Module) -> None:
        # `generate` has no way to pass this on; at the tower's own size it changes nothing.
        with_forced_option(network.get_submodule(self.parts.vision), interpolate_pos_encoding=True)

    def render(self, question: str) -> str:
        return f"USER: <image>\n{question} ASSISTANT:"

    def encode(self, pictures: Sequence[Image.Image], texts: Sequence[str], side: int) -> Any:
        seen = self.seen_side(side)
        return self.processor(
            images=list(pictures),
            text=list(texts),
            size={"shortest_edge": seen},
            crop_size={"height": seen, "width": seen},
            padding=True,
            return_tensors="pt",
        )

    def seen_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        height, width = inputs["pixel_values"].shape[-2:]
        return [(width, height)] * len(inputs["pixel_values"])

    def vision_inputs(self, geometry: Geometry) -> dict[str, Any]:
        width, height = geometry.sizes[0]
        pixels = blank(geometry.batch_size, 3, height, width)
        return {"pixel_values": pixels, "interpolate_pos_encoding": True}

    def projector_inputs(self, geometry: Geometry) -> list[dict[str, Any]]:
        (patches,) = set(geometry.patches(self.multiple))
        width = int(self.config.vision_config.hidden_size)
        return [{"image_features": blank(geometry.batch_size, patches, width)}]

    def vision_flops(self, geometry: Geometry) -> int:
        vision = self.config.vision_config
        stack = analytic.encoder(
            layers=int(vision.num_hidden_layers),
            width=int(vision.hidden_size),
            inner_width=int(vision.intermediate_size),
            inner_matrices=2,
        )
        return sum(
            analytic.linear(patches, 3 * self.multiple**2, stack.width)
            + stack.forward(patches + 1, patches + 1)
            for patches in geometry.patches(self.multiple)
        )

    def projector_flops(self, geometry: Geometry) -> int:
        rows = sum(geometry.patches(self.multiple))
        seen, read = self.config.vision_config.hidden_size, self.config.text_config.hidden_size
        return analytic.linear(rows, seen, read) + analytic.linear(rows, read, read)


FAMILY = Llava
