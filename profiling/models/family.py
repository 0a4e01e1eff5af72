"""The small interface that every family of models answers to."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from profiling.models import analytic
from profiling.models.geometry import Geometry
from profiling.models.stand_ins import describe_stand_ins
from profiling.models.tower import VisionTower

# Rendered in the place of a question, to learn what a template puts before and after it.
_MARK = "\ue000"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where the parts of a network are, as paths of submodules.

    The first pass through `text_encoder` (where there is one) and `language` up to the end of
    `head` is the prefill; every later one is a step of decoding. A projector that lies inside of
    the vision part is counted as projector and not as vision.
    """

    vision: str
    projector: tuple[str, ...]
    language: str
    head: str
    text_encoder: str | None

    def modules(
        self, network: nn.Module, *, absorbed: frozenset[str] = frozenset()
    ) -> dict[str, list[nn.Module]]:
        """The modules of each part, by the part's name."""
        encoder = [self.text_encoder] if self.text_encoder else []
        paths = {
            "vision": [self.vision],
            "projector": list(self.projector),
            "text_encoder": encoder,
            "language": [self.language],
            "head": [self.head],
        }
        return {
            name: [] if name in absorbed else [network.get_submodule(path) for path in listed]
            for name, listed in paths.items()
        }


class Family(ABC):
    """What the project has to know of a family; everything else asks here."""

    parts: ClassVar[Parts]
    network_class: ClassVar[type[Any]]
    keeps_aspect_ratio: ClassVar[bool]
    encoder_decoder: ClassVar[bool] = False
    inner_matrices: ClassVar[int] = 3  # of the decoder's feed-forward part: 3 where it is gated
    # What is asked for where flash attention is wanted, by the name of a part's configuration.
    flash_attention: ClassVar[str | dict[str, str]] = "flash_attention_2"
    vision_values: ClassVar[tuple[str, ...]] = ()  # parameters of the vision side's own
    embedding_names: ClassVar[tuple[str, ...]] = ("embed_tokens.weight", "shared.weight")

    def __init__(self, *, config: Any, folder: Path | str, processor_options: Mapping[str, Any]):
        self.config = config
        self.processor = self.load_processor(folder, processor_options)
        self.tokenizer = self.processor.tokenizer
        self.adapt_tokenizer()

    @abstractmethod
    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        """The library's processor, working on PIL pictures whatever else is installed."""

    @abstractmethod
    def render(self, question: str) -> str:
        """The whole prompt, as text, with the picture's placeholder in it."""

    @abstractmethod
    def encode(self, pictures: Sequence[Image.Image], texts: Sequence[str], side: int) -> Any:
        """The network's inputs for a batch of pictures of `img_size` side and rendered prompts."""

    @property
    @abstractmethod
    def multiple(self) -> int:
        """The sides of a picture are whole multiples of so many pixels."""

    @property
    def image_token_id(self) -> int:
        return int(self.config.image_token_id)

    def untie(self, network: Any) -> None:  # noqa: B027
        """Give weights of their own to what the library ties and real checkpoints do not."""

    def adapt_tokenizer(self) -> None:
        self.tokenizer.padding_side = "left"

    def adapt_network(self, network: nn.Module) -> None:  # noqa: B027
        """Prepare a freshly loaded network for pictures of other sizes than its own."""

    def generate_options(self, side: int) -> dict[str, Any]:
        """What this family's `generate` has to be told besides the inputs."""
        return {}

    def seen_side(self, side: int) -> int:
        """The side of a square picture when `side` was asked for."""
        return max(1, round(side / self.multiple)) * self.multiple

    def size_for(self, picture: Image.Image, side: int) -> tuple[int, int]:
        """Width and height that the network is made to see."""
        if not self.keeps_aspect_ratio:
            return self.seen_side(side), self.seen_side(side)
        scale = side / math.sqrt(picture.width * picture.height) / self.multiple
        width, height = (
            max(1, round(length * scale)) * self.multiple
            for length in (picture.width, picture.height)
        )
        return width, height

    def resize(self, pictures: Sequence[Image.Image], side: int) -> list[Image.Image]:
        """The pictures in the sizes that the network is made to see, by the processor's filter."""
        resample = self.processor.image_processor.resample
        return [p.resize(self.size_for(p, side), resample=resample) for p in pictures]

    @abstractmethod
    def seen_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        """Width and height of each picture, read off the tensors that the network gets."""

    @cached_property
    def frame(self) -> tuple[str, str]:
        """What the template puts before and after the question."""
        before, _, after = self.render(_MARK).partition(_MARK)
        return before, after

    def question_token_ends(self, question: str) -> list[int]:
        """Where each token of the question ends when it stands inside the template."""
        before, after = self.frame
        start, stop = len(before), len(before) + len(question)
        offsets = self.tokenizer(before + question + after, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        return [min(e, stop) - start for s, e in offsets if s < stop and e > start]

    def defuse(self, question: str) -> str:
        """The question without anything that the tokenizer would take for a special token."""
        for token in sorted(self.reserved_texts, key=len, reverse=True):
            question = question.replace(token, token[:1] + " " + token[1:])
        return question

    @cached_property
    def reserved_texts(self) -> tuple[str, ...]:
        added = {str(token) for token in self.tokenizer.added_tokens_decoder.values()}
        return tuple(sorted(added | set(self.tokenizer.all_special_tokens)))

    # Cutting a network in two: what is where, and how each half works without the other.

    @property
    def vision_paths(self) -> tuple[str, ...]:
        """The vision part and what of the projector lies outside of it."""
        inside = self.parts.vision + "."
        outside = (path for path in self.parts.projector if not path.startswith(inside))
        return (self.parts.vision, *outside)

    @property
    def language_paths(self) -> tuple[str, ...]:
        """The language model and its head where that lies outside of it."""
        inside = self.parts.head.startswith(self.parts.language + ".")
        return (self.parts.language,) if inside else (self.parts.language, self.parts.head)

    def part_of(self, stored_name: str) -> str:
        """Which part a value of a checkpoint belongs to, whatever version of the library named it.

        Older versions leave out the `model.` at the start of a name, newer ones do not.
        """
        bare = stored_name.removeprefix("model.")
        seeing = [path.removeprefix("model.") for path in (*self.vision_paths, *self.vision_values)]
        if any(bare == path or bare.startswith(path + ".") for path in seeing):
            return "vision"
        return "embedding" if bare.endswith(self.embedding_names) else "language"

    @abstractmethod
    def embed(self, network: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the vision part and the projector make of the pictures: [visual tokens, width]."""

    @abstractmethod
    def stand_ins(self, dtype: torch.dtype) -> dict[str, nn.Module | Tensor]:
        """What to put where so that a network takes embeddings in the place of pixels."""

    @abstractmethod
    def tower(self, network: Any) -> VisionTower:
        """The vision part and the projector as one chain, sharing the network's values."""

    @abstractmethod
    def picture_inputs(
        self, sizes: Sequence[tuple[int, int]], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """What the network gets for noise of so many pixels: width and height of each picture."""

    def vision_call(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the vision part is told besides pixels when the network has these inputs."""
        return {}

    def tower_extras(self, named: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the tower gets besides pixels, from what the vision part is called with."""
        return {}

    def as_pictures(self, embeddings: Tensor, count: int) -> Tensor:
        """Embeddings of so many pictures in the shape that the stand-ins take them in."""
        return embeddings

    def single_pictures(self, pixels: Tensor, named: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        """What `embed` takes for each picture, from what the vision part is called with.

        All of a batch as one where a call does not tell where a picture ends.
        """
        return [{"pixel_values": pixels}]

    def single_embeddings(
        self, embeddings: Tensor, pictures: Sequence[Mapping[str, Tensor]]
    ) -> list[Tensor]:
        """Embeddings of several pictures, apart."""
        return list(embeddings.chunk(len(pictures)))

    def with_embeddings(
        self, inputs: Mapping[str, Tensor], embeddings: Tensor
    ) -> dict[str, Tensor]:
        """The inputs with embeddings [visual tokens, width] where the pixels were."""
        pictures = self.as_pictures(embeddings, len(self.seen_sizes(inputs)))
        return {**inputs, "pixel_values": pictures}

    # What a program needs that has not got this project.

    def picture_recipe(self, side: int) -> dict[str, Any]:
        """How a picture becomes pixels, as plain values."""
        seen = self.processor.image_processor
        mean, std = (
            [value] * 3 if isinstance(value, float) else list(value)
            for value in (seen.image_mean, seen.image_std)
        )
        return {
            "fit": "area" if self.keeps_aspect_ratio else "square",
            "side": side if self.keeps_aspect_ratio else self.seen_side(side),
            "multiple": self.multiple,
            "resample": int(seen.resample),
            "rescale_factor": seen.rescale_factor,
            "mean": mean,
            "std": std,
            "patches": None,
            "window": None,
        }

    def prompt_recipe(self) -> dict[str, Any]:
        """How a question becomes the inputs of `generate`, as plain values."""
        return {
            "network": self.network_class.__name__,
            "stand_ins": describe_stand_ins(self.stand_ins(torch.float32)),
            "template": self.render(_MARK),
            "mark": _MARK,
            "add_special_tokens": True,
            "image_token_id": self.image_token_id,
            # Whether the template has one placeholder, or the picture goes before everything.
            "in_place": True,
            "row_end_id": None,
            "after_picture": [],
            "multiple": self.multiple,
            "batched": not self.keeps_aspect_ratio,
            "patch": None,
            "encoder_decoder": self.encoder_decoder,
        }

    def count_visual_tokens(self, ids: Tensor) -> Tensor:  # [B, S] -> [B]
        return (ids == self.image_token_id).sum(dim=1)

    def new_tokens(self, generated: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Only what the network added: no prompt, no start token."""
        start = 1 if self.encoder_decoder else inputs["input_ids"].shape[1]
        return generated[:, start:]

    def decode(self, tokens: Tensor) -> list[str]:
        """Answers as text."""
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts]

    # What the parts are called with, as shapes, and what that costs by arithmetic. The two are
    # written independently of each other, since one is held against the other.

    @property
    def decoder(self) -> str:
        """The path of the decoder without its head."""
        return self.parts.language

    @abstractmethod
    def vision_inputs(self, geometry: Geometry) -> dict[str, Any]:
        """What the vision part is called with."""

    def projector_inputs(self, geometry: Geometry) -> list[dict[str, Any]]:
        """What each part of the projector is called with."""
        return []

    def decoder_inputs(self, geometry: Geometry, rows: int, columns: int) -> dict[str, Any]:
        """What the decoder has to be told besides embeddings and cache."""
        return {}

    @abstractmethod
    def vision_flops(self, geometry: Geometry) -> int:
        """The vision part without a projector inside of it."""

    def projector_flops(self, geometry: Geometry) -> int:
        return 0

    def text_encoder_flops(self, geometry: Geometry) -> int:
        return 0

    @cached_property
    def decoder_stack(self) -> analytic.Stack:
        text = self.config.text_config
        heads = int(text.num_attention_heads)
        head_width = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
        return analytic.Stack(
            layers=int(text.num_hidden_layers),
            width=int(text.hidden_size),
            query_width=heads * head_width,
            key_width=int(getattr(text, "num_key_value_heads", heads)) * head_width,
            inner_width=int(getattr(text, "ffn_dim", None) or text.intermediate_size),
            inner_matrices=self.inner_matrices,
        )

    def prefill_flops(self, geometry: Geometry) -> int:
        """The first forward of the language model; its head at the last position only."""
        length = geometry.prompt_tokens
        one = self.decoder_stack.forward(length, length)
        return geometry.batch_size * one + self.head_flops(geometry)

    def decode_step_flops(self, geometry: Geometry, step: int) -> int:
        """The forward that makes new token `step` + 1 out of the one before."""
        one = self.decoder_stack.forward(1, geometry.prompt_tokens + step)
        return geometry.batch_size * one + self.head_flops(geometry)

    def head_flops(self, geometry: Geometry) -> int:
        text = self.config.text_config
        return analytic.linear(geometry.batch_size, int(text.hidden_size), int(text.vocab_size))


def with_forced_option(module: nn.Module, **forced: Any) -> None:
    """Have a module called with an option that its callers do not pass on."""

    def add(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, **forced}

    module.register_forward_pre_hook(add, with_kwargs=True)


def placed(inputs: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The inputs on the device, numbers with a fraction in the network's dtype."""
    return {
        name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
        for name, value in inputs.items()
        if isinstance(value, Tensor)
    }
