"""How both BLIP-2 families process prompts and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, Blip2Processor, BlipImageProcessorPil

from profiling.models.processing import PICTURE_IN_TEXT, PromptFormat
from profiling.models.square import SquareProcessing


class Blip2Processing(SquareProcessing):
    """As many visual tokens as the Q-Former has queries, before the text."""

    fit = "square"

    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        # Without the number of queries the processor writes no placeholder, and the picture
        # would be ignored without an error.
        return Blip2Processor(
            image_processor=BlipImageProcessorPil.from_pretrained(folder, **options),
            tokenizer=AutoTokenizer.from_pretrained(folder, **options),
            num_query_tokens=self.config.num_query_tokens,
        )

    @property
    def prompt_format(self) -> PromptFormat:
        return replace(PICTURE_IN_TEXT, in_place=False)

    def render(self, question: str) -> str:
        return f"Question: {question} Answer:"

    def size_options(self, side: int) -> dict[str, Any]:
        return {"size": {"height": side, "width": side}}
