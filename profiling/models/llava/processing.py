"""How LLaVA-1.5 processes prompts and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, CLIPImageProcessorPil, LlavaProcessor

from profiling.models.square import SquareProcessing


class LlavaProcessing(SquareProcessing):
    """The picture's shorter side is resized and the middle cropped to a square."""

    fit = "crop"
    one_picture = None

    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        return LlavaProcessor(
            image_processor=CLIPImageProcessorPil.from_pretrained(folder, **options),
            tokenizer=AutoTokenizer.from_pretrained(folder, **options),
            patch_size=self.config.vision_config.patch_size,
            vision_feature_select_strategy=self.config.vision_feature_select_strategy,
            # The processor adds CLIP's class token and the "default" strategy subtracts it again.
            num_additional_image_tokens=1,
        )

    def render(self, question: str) -> str:
        return self.render_several(question, 1)

    def render_several(self, question: str, pictures: int) -> str:
        places = "<image>\n" * pictures
        return f"USER: {places}{question} ASSISTANT:"

    def size_options(self, side: int) -> dict[str, Any]:
        return {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
