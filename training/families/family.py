"""What training needs to know about a family, in addition to the library's classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

Size = tuple[int, int]  # rows and columns of patches


class Family(ABC):
    """One architecture: how it is built, its inputs, and where its visual features are."""

    name: str
    patch: int
    native: Size
    others: tuple[Size, ...]  # grids of late batches, besides the native one
    # Grids of pictures that are not square, by width and height, if it keeps the aspect ratio.
    shaped: Mapping[tuple[int, int], Size] = MappingProxyType({})
    labels_per_token: int
    feature_width: int
    reads_prompt_and_answer = True  # in one sequence; False for an encoder-decoder

    @cached_property
    def processor(self) -> ProcessorMixin:
        """The library's processor."""
        return self.build_processor()

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        return self.processor.tokenizer

    @abstractmethod
    def build_processor(self) -> ProcessorMixin: ...

    @abstractmethod
    def build_network(self) -> PreTrainedModel: ...

    @abstractmethod
    def render(self, question: str) -> str:
        """The processor's text input."""

    @abstractmethod
    def prompt_ids(self, question: str, grid: Size) -> list[int]:
        """The ids that the processor makes for a picture of that grid."""

    @abstractmethod
    def see(self, network: PreTrainedModel, pixels: dict[str, Tensor], grid: Size) -> Tensor:
        """Visual features without reading any text: [tokens, width]."""

    @abstractmethod
    def watch(self, network: PreTrainedModel) -> list[Tensor]:
        """A list that holds the visual features of the latest forward."""

    def pick_features(self, kept: Tensor, ids: Tensor) -> Tensor:
        """The watched features at the positions of picture tokens."""
        return kept

    def answer_ids(self, answer: str) -> list[int]:
        ids = self.tokenizer(answer, add_special_tokens=False).input_ids
        return [*ids, self.tokenizer.eos_token_id]

    def resize(self, picture: Image.Image, grid: Size) -> Image.Image:
        rows, columns = grid
        size = (columns * self.patch, rows * self.patch)
        return picture.resize(size, Image.Resampling.BICUBIC)

    def pixels(self, pictures: list[Image.Image], grid: Size) -> dict[str, Tensor]:
        """The image processor's output for resized pictures."""
        resized = [self.resize(picture, grid) for picture in pictures]
        return dict(self.processor.image_processor(resized, return_tensors="pt", do_resize=False))

    def get_ready(self, network: PreTrainedModel) -> None:  # noqa: B027
        """Before training: cheaper equivalent operations, and support for every size."""

    def label_grid(self, grid: Size) -> Size:
        """The grid of the feature labels."""
        return grid

    def order_labels(self, labels: numpy.ndarray) -> Tensor:
        """Labels [pictures, rows, columns] in the order of the features, [tokens, per token]."""
        return torch.from_numpy(labels.reshape(-1, self.labels_per_token))

    def forward(
        self, network: PreTrainedModel, pixels: dict[str, Tensor], ids: Tensor, grid: Size
    ) -> Tensor:
        """Logits over one sequence of prompt and answer."""
        return network(input_ids=ids, use_cache=False, **pixels).logits

    def forward_apart(
        self, network: PreTrainedModel, pixels: dict[str, Tensor], prompts: Tensor, answers: Tensor
    ) -> Tensor:
        """Logits over the answer, for a family with a text encoder."""
        raise NotImplementedError(f"{self.name} reads prompt and answer in one sequence")

    def encode(self, pictures: list[Image.Image], questions: list[str], grid: Size) -> Any:
        """Calls the whole processor as a user would."""
        resized = [self.resize(picture, grid) for picture in pictures]
        text = [self.render(question) for question in questions]
        return self.processor(
            images=resized, text=text, return_tensors="pt", padding=True, do_resize=False
        )


def initialise(network: nn.Module) -> None:
    """Initialise weights so that every layer preserves the scale of its input."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=fan_in**-0.5 * _gain(name))
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.1)


def _gain(name: str) -> float:
    # T5 does not scale attention scores by the root of the head's width, so its queries are scaled.
    t5_query = name.endswith(("SelfAttention.q", "EncDecAttention.q"))
    return 0.2 if t5_query else 1.0


def keep_output(module: nn.Module) -> list[Tensor]:
    """The module's latest output, flattened to [tokens, width]."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        kept[:] = [first_tensor(output).flatten(0, -2)]

    module.register_forward_hook(keep)
    return kept


def first_tensor(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
