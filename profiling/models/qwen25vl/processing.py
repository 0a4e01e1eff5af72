"""How Qwen2.5-VL processes prompts and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, Qwen2_5_VLProcessor, Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin

from profiling.models.processing import PatchFormat, Processing


class PictureProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
    """The library's processor without its video processor, which requires torchvision."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(
            self, image_processor, tokenizer, chat_template=tokenizer.chat_template
        )


class Qwen25VLProcessing(Processing):
    """Pictures become rows of patches, and a grid says how many rows and columns each has."""

    fit = "area"

    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        return PictureProcessor(
            image_processor=Qwen2VLImageProcessorPil.from_pretrained(folder, **options),
            tokenizer=AutoTokenizer.from_pretrained(folder, **options),
        )

    @property
    def multiple(self) -> int:
        vision = self.config.vision_config
        return int(vision.patch_size * vision.spatial_merge_size)

    @property
    def patch_format(self) -> PatchFormat:
        vision = self.config.vision_config
        return PatchFormat(
            patch=self.grid_patch,
            merge=int(vision.spatial_merge_size),
            frames=int(vision.temporal_patch_size),
            channels_last=False,
        )

    @property
    def grid_patch(self) -> int:
        return int(self.config.vision_config.patch_size)

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

    def picture_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        patch = self.grid_patch
        return [(w * patch, h * patch) for _, h, w in inputs["image_grid_thw"].tolist()]

    def noise_inputs(
        self, sizes: Sequence[tuple[int, int]], generator: torch.Generator
    ) -> dict[str, Tensor]:
        vision, patch = self.config.vision_config, self.grid_patch
        grids = torch.tensor([[1, height // patch, width // patch] for width, height in sizes])
        values = int(vision.in_channels * vision.temporal_patch_size * patch**2)
        return {
            "pixel_values": torch.randn(int(grids.prod(-1).sum()), values, generator=generator),
            "image_grid_thw": grids,
        }
