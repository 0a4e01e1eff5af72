"""How Fuyu processes prompts and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, FuyuImageProcessorPil, FuyuProcessor

from profiling.models.processing import PatchFormat, Processing, PromptFormat


class FuyuImages(FuyuImageProcessorPil):  # type: ignore[misc]
    """The library's PIL image processor with patches cut as its torch one cuts them."""

    def patchify_image(self, image: Any, patch_size: Any = None) -> Tensor:
        # The library's method passes numpy's axes to a tensor's transpose. The processor squeezes
        # the leading axis away; without it a picture of one patch would lose its row.
        patches = super().patchify_image(image=numpy.asarray(image), patch_size=patch_size)
        return torch.from_numpy(numpy.ascontiguousarray(patches))[None]


class FuyuProcessing(Processing):
    """The rows of patches come before the text, each with a token at its end."""

    fit = "area"

    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        names = ("input_ids", "attention_mask")
        tokenizer.model_input_names = list(names)
        return FuyuProcessor(
            image_processor=FuyuImages.from_pretrained(folder, **options),
            tokenizer=tokenizer,
        )

    @property
    def multiple(self) -> int:
        return int(self.config.patch_size)

    @property
    def patch_format(self) -> PatchFormat:
        return PatchFormat(patch=self.multiple, merge=1, frames=1, channels_last=True)

    @property
    def prompt_format(self) -> PromptFormat:
        begin, end = self.tokenizer.convert_tokens_to_ids(["<s>", "<0x04>"])
        return PromptFormat(
            in_place=False,
            add_special_tokens=False,
            ending=self.tokenizer.convert_ids_to_tokens(end),
            row_end_id=int(self.processor.image_newline_id),
            after_picture=(begin,),
        )

    @property
    def image_token_id(self) -> int:
        return int(self.processor.image_token_id)

    @cached_property
    def visual_token_ids(self) -> tuple[int, ...]:
        return (self.image_token_id, int(self.processor.image_newline_id))

    @cached_property
    def special_texts(self) -> tuple[str, ...]:
        # The tokenizer has these as ordinary pieces, but the processor gives them a meaning.
        tags = ("|SPEAKER|", "|NEWLINE|", "<s>", "<box>", "</box>", "<point>", "</point>")
        codes = (f"<0x0{code}>" for code in range(5))
        return tuple(sorted({*super().special_texts, *tags, *codes}))

    def render(self, question: str) -> str:
        return f"{question}\n"

    def encode(self, pictures: Sequence[Image.Image], texts: Sequence[str], side: int) -> Any:
        sized = self.resize(pictures, side)
        # All pictures are padded to this size; the processor drops the patches of padding.
        canvas = {
            "height": max(picture.height for picture in sized),
            "width": max(picture.width for picture in sized),
        }
        return self.processor(
            images=sized,
            text=list(texts),
            size=canvas,
            return_tensors="pt",
            return_legacy_image_output=False,
        )

    def picture_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        ids, patch = inputs["input_ids"], self.multiple
        rows = (ids == self.processor.image_newline_id).sum(dim=1)
        columns = self.count_visual_tokens(ids) // rows
        return [(int(c) * patch, int(r) * patch) for c, r in zip(columns, rows, strict=True)]

    def noise_inputs(
        self, sizes: Sequence[tuple[int, int]], generator: torch.Generator
    ) -> dict[str, Tensor]:
        side = self.multiple
        patches = sum((width // side) * (height // side) for width, height in sizes)
        values = int(self.config.num_channels) * side**2
        return {"pixel_values": torch.randn(patches, values, generator=generator)}
