"""Fuyu: picture patches go straight into the decoder through one linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoTokenizer, FuyuForCausalLM, FuyuImageProcessorPil, FuyuProcessor

from profiling.models import analytic
from profiling.models.family import Family, Parts
from profiling.models.geometry import Geometry, blank
from profiling.models.tower import VisionTower


class PictureProcessor(FuyuImageProcessorPil):  # type: ignore[misc]
    """The library's PIL image processor with its patches cut as the torch one cuts them."""

    def patchify_image(self, image: Any, patch_size: Any = None) -> Tensor:
        # The stock method hands numpy's axes to a tensor's transpose. The leading axis is what
        # the processor squeezes away again, and a picture of one patch would lose its row.
        patches = super().patchify_image(image=numpy.asarray(image), patch_size=patch_size)
        return torch.from_numpy(numpy.ascontiguousarray(patches))[None]


class LinearTower(VisionTower):
    """One linear layer, and nothing to cut it into."""

    axes: ClassVar[Mapping[str, Mapping[int, str]]] = {"pixel_values": {0: "patches"}}
    hidden_axes: ClassVar[Mapping[int, str]] = {0: "patches"}

    def __init__(self, linear: nn.Module) -> None:
        super().__init__([])
        self.linear = linear

    def embed(self, pixels: Tensor, *extras: Tensor) -> Tensor:
        return self.linear(pixels)  # type: ignore[no-any-return]

    def run_block(self, index: int, hidden: Tensor, *extras: Tensor) -> Tensor:
        raise IndexError(f"a linear layer has no block {index}")

    def finish(self, hidden: Tensor) -> Tensor:
        return hidden


class Fuyu(Family):
    parts = Parts(
        vision="model.vision_embed_tokens",
        projector=(),
        language="model.language_model",
        head="lm_head",
        text_encoder=None,
    )
    network_class = FuyuForCausalLM
    keeps_aspect_ratio = True
    inner_matrices = 2

    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        names = ("input_ids", "attention_mask")
        tokenizer.model_input_names = list(names)
        return FuyuProcessor(
            image_processor=PictureProcessor.from_pretrained(folder, **options),
            tokenizer=tokenizer,
        )

    @property
    def multiple(self) -> int:
        return int(self.config.patch_size)

    @property
    def image_token_id(self) -> int:
        return int(self.processor.image_token_id)

    @cached_property
    def reserved_texts(self) -> tuple[str, ...]:
        # Ordinary pieces to the tokenizer, but the processor gives them a meaning of their own.
        tags = ("|SPEAKER|", "|NEWLINE|", "<s>", "<box>", "</box>", "<point>", "</point>")
        codes = (f"<0x0{code}>" for code in range(5))
        return tuple(sorted({*super().reserved_texts, *tags, *codes}))

    def render(self, question: str) -> str:
        return f"{question}\n"

    def encode(self, pictures: Sequence[Image.Image], texts: Sequence[str], side: int) -> Any:
        sized = self.resize(pictures, side)
        # The canvas that everything is padded to; the padding is cut off again patch by patch.
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

    def seen_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        ids, patch = inputs["input_ids"], self.multiple
        rows = (ids == self.processor.image_newline_id).sum(dim=1)
        columns = self.count_visual_tokens(ids) // rows
        return [(int(c) * patch, int(r) * patch) for c, r in zip(columns, rows, strict=True)]

    def embed(self, network: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        embeddings: Tensor = network.get_submodule(self.parts.vision)(inputs["pixel_values"])
        return embeddings

    def tower(self, network: Any) -> LinearTower:
        return LinearTower(network.get_submodule(self.parts.vision))

    def picture_inputs(
        self, sizes: Sequence[tuple[int, int]], generator: torch.Generator
    ) -> dict[str, Tensor]:
        side = self.multiple
        patches = sum((width // side) * (height // side) for width, height in sizes)
        values = int(self.config.num_channels) * side**2
        return {"pixel_values": torch.randn(patches, values, generator=generator)}

    def stand_ins(self, dtype: torch.dtype) -> dict[str, nn.Module | Tensor]:
        return {self.parts.vision: nn.Identity()}

    def picture_recipe(self, side: int) -> dict[str, Any]:
        patches = {"patch": self.multiple, "merge": 1, "frames": 1, "channels_last": True}
        return {**super().picture_recipe(side), "patches": patches}

    def prompt_recipe(self) -> dict[str, Any]:
        recipe = super().prompt_recipe()
        begin, end = self.tokenizer.convert_tokens_to_ids(["<s>", "<0x04>"])
        return {
            **recipe,
            "template": recipe["template"] + self.tokenizer.convert_ids_to_tokens(end),
            "add_special_tokens": False,
            "in_place": False,
            "row_end_id": int(self.processor.image_newline_id),
            "after_picture": [begin],
        }

    def vision_inputs(self, geometry: Geometry) -> dict[str, Any]:
        patches = sum(geometry.patches(self.multiple))
        return {"input": blank(patches, self.config.num_channels * self.multiple**2)}

    def vision_flops(self, geometry: Geometry) -> int:
        patches = sum(geometry.patches(self.multiple))
        values = self.config.num_channels * self.multiple**2
        return analytic.linear(patches, values, self.config.text_config.hidden_size)


FAMILY = Fuyu
