"""Qwen2.5-VL at a size that trains on one core."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.nn import functional
from transformers import (
    PreTrainedModel,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
)

from training.families.family import Family, Size, initialise
from training.tokenizers import build_byte_level

_SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}"
    "{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SIDE = 112


class PictureProcessor(Qwen2_5_VLProcessor):
    """The library's processor without its video half, which needs another package."""

    def __init__(
        self, image_processor: Any, tokenizer: Any, chat_template: Any = None, **kwargs: Any
    ) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


class FAMILY(Family):
    name = "qwen25vl"
    patch = 14
    native = (8, 8)
    others = ((6, 6), (4, 4), (10, 10), (8, 12), (12, 8))
    shaped = MappingProxyType({(320, 240): (6, 10), (240, 320): (10, 6)})
    labels_per_token = 4
    feature_width = 128

    def __init__(self) -> None:
        self._positions: dict[Size, Tensor] = {}

    def build_processor(self) -> ProcessorMixin:
        tokenizer = build_byte_level(
            special=_SPECIAL,
            template=None,
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            padding_side="left",
        )
        area = _SIDE * _SIDE
        images = Qwen2VLImageProcessorPil(min_pixels=area, max_pixels=area)
        return PictureProcessor(images, tokenizer, chat_template=_TEMPLATE)

    def build_network(self) -> PreTrainedModel:
        network = Qwen2_5_VLForConditionalGeneration(self._configuration())
        initialise(network)
        network.generation_config.eos_token_id = [self._id("<|im_end|>"), 0]
        network.generation_config.pad_token_id = 0
        return network

    def render(self, question: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        message = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True
        )

    def prompt_ids(self, question: str, grid: Size) -> list[int]:
        count = grid[0] * grid[1] // 4
        text = self.render(question).replace("<|image_pad|>", "<|image_pad|>" * count)
        return self.tokenizer(text).input_ids

    def see(self, network: PreTrainedModel, pixels: dict[str, Tensor], grid: Size) -> Tensor:
        seen = network.model.visual(pixels["pixel_values"], grid_thw=pixels["image_grid_thw"])
        return seen.pooler_output

    def watch(self, network: PreTrainedModel) -> list[Tensor]:
        kept: list[Tensor] = []

        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            kept[:] = [output.pooler_output]

        network.model.visual.register_forward_hook(keep)
        return kept

    def get_ready(self, network: PreTrainedModel) -> None:
        # A patch is exactly one window of the convolution, so this is a matrix product.
        embed = network.model.visual.patch_embed
        embed.forward = lambda patches: functional.linear(patches, embed.proj.weight.flatten(1))

    def order_labels(self, labels: numpy.ndarray) -> Tensor:
        pictures, rows, columns = labels.shape
        merged = labels.reshape(pictures, rows // 2, 2, columns // 2, 2).transpose(0, 1, 3, 2, 4)
        return torch.from_numpy(merged.reshape(-1, 4))

    def forward(
        self, network: PreTrainedModel, pixels: dict[str, Tensor], ids: Tensor, grid: Size
    ) -> Tensor:
        # Everything before the question is equal in a batch, so one row's positions fit all.
        positions = self._place(network, pixels, ids, grid).expand(-1, len(ids), -1)
        return network(input_ids=ids, position_ids=positions, use_cache=False, **pixels).logits

    def _place(
        self, network: PreTrainedModel, pixels: dict[str, Tensor], ids: Tensor, grid: Size
    ) -> Tensor:
        length = ids.shape[1]
        if grid not in self._positions or self._positions[grid].shape[2] < length:
            row = torch.nn.functional.pad(ids[:1], (0, 64), value=self._id("<|endoftext|>"))
            kinds = (row == self._id("<|image_pad|>")).int()
            grids = pixels["image_grid_thw"][:1]
            places, _ = network.model.get_rope_index(row, kinds, image_grid_thw=grids)
            self._positions[grid] = places
        return self._positions[grid][:, :, :length]

    def _id(self, token: str) -> int:
        return self.tokenizer.convert_tokens_to_ids(token)

    def _configuration(self) -> Qwen2_5_VLConfig:
        text = {
            "vocab_size": len(self.tokenizer),
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "bos_token_id": self._id("<|endoftext|>"),
            "eos_token_id": self._id("<|im_end|>"),
            "pad_token_id": self._id("<|endoftext|>"),
            # Grids are a few patches wide, so rows and columns need high frequencies; attention
            # from words to the picture spans dozens of tokens, which needs low ones.
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [2, 3, 11],
                "rope_theta": 100.0,
            },
        }
        vision = {
            "depth": 4,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": 14,
            "out_hidden_size": 128,
            "fullatt_block_indexes": [1, 3],
            "window_size": 112,
            "tokens_per_second": 2,
        }
        return Qwen2_5_VLConfig(
            text_config=text,
            vision_config=vision,
            image_token_id=self._id("<|image_pad|>"),
            video_token_id=self._id("<|video_pad|>"),
            vision_start_token_id=self._id("<|vision_start|>"),
            vision_end_token_id=self._id("<|vision_end|>"),
            tie_word_embeddings=True,
            dtype="float32",
        )
