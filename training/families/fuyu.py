"""Fuyu at a size that trains on one core."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    FuyuConfig,
    FuyuForCausalLM,
    FuyuImageProcessorPil,
    FuyuProcessor,
    PersimmonConfig,
    PreTrainedModel,
    ProcessorMixin,
)

from training.families.family import Family, Size, initialise, keep_output
from training.tokenizers import build_unigram

_SIDE = 240
_SPECIAL = ["|ENDOFTEXT|", "<unk>", "<s>", "</s>", "|SPEAKER|", "|NEWLINE|"]
_WATCHED_LAYER = 2


class FAMILY(Family):
    name = "fuyu"
    patch = 30
    native = (8, 8)
    others = ((6, 6), (4, 4), (10, 10), (7, 9), (9, 7))
    labels_per_token = 1
    feature_width = 192

    def build_processor(self) -> ProcessorMixin:
        tokenizer = build_unigram(
            special=_SPECIAL,
            bos_token="|ENDOFTEXT|",
            eos_token="|ENDOFTEXT|",
            pad_token="|ENDOFTEXT|",
            unk_token="<unk>",
            padding_side="left",
        )
        images = FuyuImageProcessorPil(
            size={"height": _SIDE, "width": _SIDE}, patch_size={"height": 30, "width": 30}
        )
        return FuyuProcessor(images, tokenizer)

    @cached_property
    def processor(self) -> ProcessorMixin:
        return repair(self.build_processor())

    def build_network(self) -> PreTrainedModel:
        network = FuyuForCausalLM(self._configuration())
        initialise(network)
        return network

    def render(self, question: str) -> str:
        return f"{question}\n"

    def prompt_ids(self, question: str, grid: Size) -> list[int]:
        text = self.tokenizer(f"{self.render(question)}<0x04>", add_special_tokens=False).input_ids
        return [*self._picture_ids(grid), *text]

    def pixels(self, pictures: list[Image.Image], grid: Size) -> dict[str, Tensor]:
        images = self.processor.image_processor
        size = {"height": grid[0] * self.patch, "width": grid[1] * self.patch}
        resized = [self.resize(picture, grid) for picture in pictures]
        made = images(resized, return_tensors="pt", do_resize=False, size=size)["images"]
        patches = [
            images.patchify_image(image=one[0], patch_size=images.patch_size) for one in made
        ]
        return {"pixel_values": torch.cat(patches).reshape(len(pictures), grid[0] * grid[1], -1)}

    def see(self, network: PreTrainedModel, pixels: dict[str, Tensor], grid: Size) -> Tensor:
        # Fuyu has no vision encoder: the decoder runs on the picture's tokens alone.
        ids = torch.tensor([self._picture_ids(grid)] * len(pixels["pixel_values"]))
        decoder = network.model.language_model
        layers = decoder.layers
        decoder.layers = layers[: _WATCHED_LAYER + 1]
        network.model(input_ids=ids, use_cache=False, **pixels)
        decoder.layers = layers
        return self.pick_features(self._kept[0], ids)

    def pick_features(self, kept: Tensor, ids: Tensor) -> Tensor:
        return kept[(ids == self.tokenizer.convert_tokens_to_ids("|SPEAKER|")).flatten()]

    def watch(self, network: PreTrainedModel) -> list[Tensor]:
        self._kept = keep_output(network.model.language_model.layers[_WATCHED_LAYER])
        return self._kept

    def encode(self, pictures: list[Image.Image], questions: list[str], grid: Size) -> Any:
        size = {"height": grid[0] * self.patch, "width": grid[1] * self.patch}
        resized = [self.resize(picture, grid) for picture in pictures]
        text = [self.render(question) for question in questions]
        return self.processor(
            images=resized,
            text=text,
            return_tensors="pt",
            size=size,
            return_legacy_image_output=False,
        )

    def _picture_ids(self, grid: Size) -> list[int]:
        convert = self.tokenizer.convert_tokens_to_ids
        row = [convert("|SPEAKER|")] * grid[1] + [convert("|NEWLINE|")]
        return [*(row * grid[0]), convert("<s>")]

    def _configuration(self) -> FuyuConfig:
        shape = {
            "vocab_size": len(self.tokenizer),
            "hidden_size": 192,
            "intermediate_size": 576,
            "num_hidden_layers": 5,
            "num_attention_heads": 6,
            "max_position_embeddings": 1024,
            "pad_token_id": 0,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
        text = PersimmonConfig(**shape, hidden_dropout=0.0, attention_dropout=0.0)
        return FuyuConfig(
            text_config=text.to_dict(),
            **shape,
            patch_size=30,
            num_channels=3,
            image_token_id=self.tokenizer.convert_tokens_to_ids("|SPEAKER|"),
            dtype="float32",
        )


def repair(processor: ProcessorMixin) -> ProcessorMixin:
    """Fix the library's patchify, which expects arrays but gets tensors from its own processor."""
    images = processor.image_processor
    patchify = images.patchify_image

    def patchify_tensor(image: Tensor, patch_size: Any = None) -> Tensor:
        patches = patchify(image=numpy.asarray(image), patch_size=patch_size)
        return torch.from_numpy(numpy.ascontiguousarray(patches))[None]

    images.patchify_image = patchify_tensor
    return processor
