"""What the BLIP-2 families share: a vision transformer, a Q-Former and a projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import (
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
)

from profiling.models.family import Family


class Blip2(Family):
    network_class = Blip2ForConditionalGeneration
    keeps_aspect_ratio = False

    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        # Without the number of queries the processor writes no placeholder, and the picture
        # would be left out without a word.
        return Blip2Processor(
            image_processor=BlipImageProcessorPil.from_pretrained(folder, **options),
            tokenizer=AutoTokenizer.from_pretrained(folder, **options),
            num_query_tokens=self.config.num_query_tokens,
        )

    @property
    def multiple(self) -> int:
        return int(self.config.vision_config.patch_size)

    def render(self, question: str) -> str:
        return f"Question: {question} Answer:"

    def generate_options(self, side: int) -> dict[str, Any]:
        own = self.config.vision_config.image_size
        return {"interpolate_pos_encoding": self.seen_side(side) != own}

    def encode(self, pictures: Sequence[Image.Image], texts: Sequence[str], side: int) -> Any:
        seen = self.seen_side(side)
        return self.processor(
            images=list(pictures),
            text=list(texts),
            size={"height": seen, "width": seen},
            padding=True,
            return_tensors="pt",
        )

    def seen_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        height, width = inputs["pixel_values"].shape[-2:]
        return [(width, height)] * len(inputs["pixel_values"])
