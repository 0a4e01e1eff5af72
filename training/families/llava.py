"""LLaVA-1.5 at a size that trains on one core."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    ProcessorMixin,
)

from training.families.family import Family, Size, initialise, keep_output
from training.families.positions import wave_positions
from training.tokenizers import build_byte_level

_SIDE = 112
_VISION_WIDTH = 128
_TEXT_WIDTH = 192
_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


class FAMILY(Family):
    name = "llava"
    patch = 14
    native = (8, 8)
    others = ((6, 6), (4, 4), (10, 10))
    labels_per_token = 1
    feature_width = _TEXT_WIDTH

    def build_processor(self) -> ProcessorMixin:
        tokenizer = build_byte_level(
            special=["<unk>", "<s>", "</s>", "<pad>", "<image>"],
            template="<s> $A",
            bos_token="<s>",
            eos_token="</s>",
            pad_token="<pad>",
            unk_token="<unk>",
            padding_side="left",
        )
        images = CLIPImageProcessorPil(
            size={"shortest_edge": _SIDE}, crop_size={"height": _SIDE, "width": _SIDE}
        )
        return LlavaProcessor(
            images,
            tokenizer,
            patch_size=14,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=_TEMPLATE,
        )

    def build_network(self) -> PreTrainedModel:
        network = LlavaForConditionalGeneration(self._configuration())
        initialise(network)
        embeddings = network.model.vision_tower.embeddings
        embeddings.class_embedding.data.normal_(std=0.1)
        embeddings.position_embedding.weight.data[1:] = wave_positions(self.native, _VISION_WIDTH)
        # As large as the residual stream of a tower without this norm, which learns sooner.
        network.model.vision_tower.pre_layrnorm.weight.data.fill_(6.0)
        return network

    def render(self, question: str) -> str:
        return f"USER: <image>\n{question} ASSISTANT:"

    def prompt_ids(self, question: str, grid: Size) -> list[int]:
        text = self.render(question).replace("<image>", "<image>" * (grid[0] * grid[1]))
        return self.tokenizer(text).input_ids

    def pixels(self, pictures: list[Image.Image], grid: Size) -> dict[str, Tensor]:
        resized = [self.resize(picture, grid) for picture in pictures]
        made = self.processor.image_processor(
            resized, return_tensors="pt", do_resize=False, do_center_crop=False
        )
        return dict(made)

    def get_ready(self, network: PreTrainedModel) -> None:
        tower = network.model.vision_tower
        tower.forward = partial(tower.forward, interpolate_pos_encoding=True)
        # Features are taken before the last layer, as in the public model; its output is unused.
        network.model.vision_tower.encoder.layers[-1].forward = _pass_on

    def encode(self, pictures: list[Image.Image], questions: list[str], grid: Size) -> Any:
        return self.processor(
            images=[self.resize(picture, grid) for picture in pictures],
            text=[self.render(question) for question in questions],
            return_tensors="pt",
            padding=True,
            do_resize=False,
            do_center_crop=False,
        )

    def see(self, network: PreTrainedModel, pixels: dict[str, Tensor], grid: Size) -> Tensor:
        seen = network.model.get_image_features(**pixels)
        return torch.cat(list(seen.pooler_output))

    def watch(self, network: PreTrainedModel) -> list[Tensor]:
        return keep_output(network.model.multi_modal_projector)

    def _configuration(self) -> LlavaConfig:
        vision = CLIPVisionConfig(
            hidden_size=_VISION_WIDTH,
            intermediate_size=256,
            num_hidden_layers=5,
            num_attention_heads=4,
            image_size=_SIDE,
            patch_size=14,
            projection_dim=64,
        )
        text = LlamaConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=_TEXT_WIDTH,
            intermediate_size=3 * _TEXT_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=4096,
            rms_norm_eps=1e-5,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=3,
        )
        return LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=self.tokenizer.convert_tokens_to_ids("<image>"),
            image_seq_length=64,
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
            pad_token_id=3,
            dtype="float32",
        )


def _pass_on(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden
