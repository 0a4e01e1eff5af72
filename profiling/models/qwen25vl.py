"""Qwen2.5-VL: a vision transformer with windows, a merger, and a decoder with 3-D positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import (
    AutoTokenizer,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
)
from transformers.processing_utils import ProcessorMixin

from profiling.models.family import Family, Parts


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
        resample = self.processor.image_processor.resample
        sized = [p.resize(self.size_for(p, side), resample=resample) for p in pictures]
        return self.processor(
            images=sized, text=list(texts), do_resize=False, padding=True, return_tensors="pt"
        )

    def seen_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        patch = int(self.config.vision_config.patch_size)
        return [(w * patch, h * patch) for _, h, w in inputs["image_grid_thw"].tolist()]


FAMILY = Qwen25VL
