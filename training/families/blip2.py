"""What both BLIP-2 models share: the tower, the queries and the processor."""

from __future__ import annotations

from abc import abstractmethod

import numpy
import torch
from torch import Tensor
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessorPil,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)

from training.families.family import Family, Size, initialise, keep_output
from training.families.positions import wave_positions

_SIDE = 112
_QUERIES = 32
_WIDTH = 128
_SHARPNESS = 4.0  # initial scale of the keys relative to the queries


class Blip2Family(Family):
    """Each query covers two patches, one above the other, of an 8 by 8 grid."""

    patch = 14
    native = (8, 8)
    others = ((6, 6), (4, 4), (10, 10))
    labels_per_token = 2
    feature_width = _WIDTH

    @abstractmethod
    def build_tokenizer(self) -> PreTrainedTokenizerFast: ...

    @abstractmethod
    def configure_text(self) -> PreTrainedConfig: ...

    def build_processor(self) -> ProcessorMixin:
        images = BlipImageProcessorPil(size={"height": _SIDE, "width": _SIDE})
        return Blip2Processor(images, self.build_tokenizer(), num_query_tokens=_QUERIES)

    def build_network(self) -> PreTrainedModel:
        network = Blip2ForConditionalGeneration(self._configuration())
        initialise(network)
        places = wave_positions(self.native, _WIDTH)
        network.vision_model.embeddings.class_embedding.data.normal_(std=0.1)
        network.vision_model.embeddings.position_embedding.data[0, 1:] = places
        self._aim_queries(network, places)
        return network

    def _aim_queries(self, network: PreTrainedModel, places: Tensor) -> None:
        """Initialise each query at its two patches: queries do not find places by themselves."""
        rows, columns = self.native
        by_place = places.view(rows // 2, 2, columns, _WIDTH)
        network.query_tokens.data[0] = by_place.mean(1).flatten(0, 1)
        for layer in network.qformer.encoder.layer:
            seeing = layer.crossattention.attention
            seeing.key.weight.data = _SHARPNESS * seeing.query.weight.data

    def render(self, question: str) -> str:
        return f"Question: {question} Answer:"

    def prompt_ids(self, question: str, grid: Size) -> list[int]:
        image = self.tokenizer.convert_tokens_to_ids("<image>")
        return [image] * _QUERIES + self.tokenizer(self.render(question)).input_ids

    def see(self, network: PreTrainedModel, pixels: dict[str, Tensor], grid: Size) -> Tensor:
        seen = network.get_image_features(**pixels, interpolate_pos_encoding=True)
        return seen.pooler_output.flatten(0, -2)

    def watch(self, network: PreTrainedModel) -> list[Tensor]:
        return keep_output(network.language_projection)

    def label_grid(self, grid: Size) -> Size:
        return self.native

    def order_labels(self, labels: numpy.ndarray) -> Tensor:
        pictures, rows, columns = labels.shape
        paired = labels.reshape(pictures, rows // 2, 2, columns).transpose(0, 1, 3, 2)
        return torch.from_numpy(paired.reshape(-1, 2))

    def forward(
        self, network: PreTrainedModel, pixels: dict[str, Tensor], ids: Tensor, grid: Size
    ) -> Tensor:
        return network(
            input_ids=ids, use_cache=False, interpolate_pos_encoding=True, **pixels
        ).logits

    def _configuration(self) -> Blip2Config:
        vision = Blip2VisionConfig(
            hidden_size=_WIDTH,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=_SIDE,
            patch_size=14,
        )
        queries = Blip2QFormerConfig(
            hidden_size=_WIDTH,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            encoder_hidden_size=_WIDTH,
            cross_attention_frequency=1,
            vocab_size=len(self.tokenizer),
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        return Blip2Config(
            vision_config=vision.to_dict(),
            qformer_config=queries.to_dict(),
            text_config=self.configure_text().to_dict(),
            num_query_tokens=_QUERIES,
            image_token_index=self.tokenizer.convert_tokens_to_ids("<image>"),
            image_text_hidden_size=64,
            dtype="float32",
        )
