"""Qwen2.5-VL: a vision transformer with windows, a merger, and a decoder with 3-D positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AutoTokenizer,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
)
from transformers.processing_utils import ProcessorMixin

from profiling.models import analytic
from profiling.models.family import Family, Parts
from profiling.models.geometry import Geometry, blank


class PictureProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
    """The library's processor without its video half, which cannot exist without torchvision."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(
            self, image_processor, tokenizer, chat_template=tokenizer.chat_template
        )


class Qwen25VL(Family):
    parts = Parts(
        vision="model.visual",
        projector=("model.visual.merger",),
        language="model.language_model",
        head="lm_head",
        text_encoder=None,
    )
    network_class = Qwen2_5_VLForConditionalGeneration
    keeps_aspect_ratio = True

    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        return PictureProcessor(
            image_processor=Qwen2VLImageProcessorPil.from_pretrained(folder, **options),
            tokenizer=AutoTokenizer.from_pretrained(folder, **options),
        )

    @property
    def multiple(self) -> int:
        vision = self.config.vision_config
        return int(vision.patch_size * vision.spatial_merge_size)

    def render(self, question: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        return str(
            self.processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
        )

    def encode(self, pictures: Sequence[Image.Image], texts: Sequence[str], side: int) -> Any:
        sized = self.resize(pictures, side)
        return self.processor(
            images=sized, text=list(texts), do_resize=False, padding=True, return_tensors="pt"
        )

    def seen_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        patch = int(self.config.vision_config.patch_size)
        return [(w * patch, h * patch) for _, h, w in inputs["image_grid_thw"].tolist()]

    def vision_inputs(self, geometry: Geometry) -> dict[str, Any]:
        patch = int(self.config.vision_config.patch_size)
        patches = sum(geometry.patches(patch))
        return {
            "hidden_states": blank(patches, self._patch_values),
            # The windows are cut by what is in the grid, so it has values.
            "grid_thw": torch.tensor([[1, h // patch, w // patch] for w, h in geometry.sizes]),
            "position_ids": blank(patches, 2),
        }

    def projector_inputs(self, geometry: Geometry) -> list[dict[str, Any]]:
        vision = self.config.vision_config
        return [{"x": blank(sum(geometry.patches(vision.patch_size)), vision.hidden_size)}]

    def vision_flops(self, geometry: Geometry) -> int:
        vision = self.config.vision_config
        stack = analytic.encoder(
            layers=int(vision.depth),
            width=int(vision.hidden_size),
            inner_width=int(vision.intermediate_size),
            inner_matrices=3,
        )
        whole = len(vision.fullatt_block_indexes)
        flops = 0
        for size, patches in zip(geometry.sizes, geometry.patches(vision.patch_size), strict=True):
            flops += analytic.linear(patches, self._patch_values, stack.width) + stack.rows(patches)
            flops += whole * analytic.attention(patches, patches, stack.width)
            for window in self._windows(*size):
                flops += (stack.layers - whole) * analytic.attention(window, window, stack.width)
        return flops

    def projector_flops(self, geometry: Geometry) -> int:
        rows = sum(geometry.patches(self.multiple))
        merged = (
            self.config.vision_config.hidden_size * self.config.vision_config.spatial_merge_size**2
        )
        out = self.config.vision_config.out_hidden_size
        return analytic.linear(rows, merged, merged) + analytic.linear(rows, merged, out)

    @property
    def _patch_values(self) -> int:
        vision = self.config.vision_config
        return int(vision.in_channels * vision.temporal_patch_size * vision.patch_size**2)

    def _windows(self, width: int, height: int) -> list[int]:
        """How many patches are in each of the windows that attention is kept to."""
        vision = self.config.vision_config
        merged = self.multiple
        side = vision.window_size // merged
        columns, rows = width // merged, height // merged
        return [
            min(side, columns - left) * min(side, rows - top) * vision.spatial_merge_size**2
            for top in range(0, rows, side)
            for left in range(0, columns, side)
        ]


FAMILY = Qwen25VL
