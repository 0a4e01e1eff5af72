"""Processing: pictures and questions become the network's inputs, its tokens become text."""

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
from torch import Tensor

from profiling.errors import ConfigError, Unsupported
from profiling.models.geometry import snap_side
from profiling.models.special_texts import escape_special_texts

# Rendered as the question, to find what a template puts before and after it.
QUESTION_PLACEHOLDER = "\ue000"


@dataclass(frozen=True, kw_only=True)
class PatchFormat:
    """How the image processor flattens a picture into a row of values for each patch."""

    patch: int  # side in pixels
    merge: int  # patches of square blocks with this side follow one another
    frames: int  # copies of each patch
    channels_last: bool


@dataclass(frozen=True, kw_only=True)
class PromptFormat:
    """Where the processor puts the picture's tokens, and what it adds to the rendered prompt."""

    in_place: bool  # at the placeholder in the text; otherwise before the text
    add_special_tokens: bool  # whether the tokenizer adds its own
    ending: str
    row_end_id: int | None  # the token after each row of patches
    after_picture: tuple[int, ...]


PICTURE_IN_TEXT = PromptFormat(
    in_place=True, add_special_tokens=True, ending="", row_end_id=None, after_picture=()
)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a prompt shows: pictures, or the frames of a clip and how many make a second."""

    pictures: tuple[Image.Image, ...] = ()
    frames: tuple[Image.Image, ...] = ()
    fps: float | None = None


class Processing(ABC):
    """The processor of a family, and how the project calls it."""

    # Why a prompt has one picture and no more; None where it can have several.
    one_picture: ClassVar[str | None] = "a prompt of this family has one picture"
    # Why a prompt can have no clip; None where it can.
    no_clip: ClassVar[str | None] = "this family sees pictures and no clips"

    # "area": same aspect ratio, same area as a square; "square": stretched; "crop": cut to one.
    fit: ClassVar[str]
    padding_side: ClassVar[str] = "left"

    def __init__(
        self,
        *,
        config: Any,
        folder: Path | str,
        options: Mapping[str, Any],
        prompt: str | None,
    ) -> None:
        """`prompt` is a template with {question}; a family that has its own needs none."""
        self.config = config
        self.prompt = prompt
        self.processor = self.load_processor(folder, options)
        self.tokenizer = self.processor.tokenizer
        self.tokenizer.padding_side = self.padding_side

    @abstractmethod
    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        """The library's processor with a PIL image processor, whatever else is installed."""

    # Prompts

    @abstractmethod
    def render(self, question: str) -> str:
        """The whole prompt as text, the picture's placeholder included."""

    def render_several(self, question: str, pictures: int) -> str:
        """The prompt with places for so many pictures before the question."""
        raise Unsupported(str(self.one_picture))

    def render_clip(self, question: str) -> str:
        """The prompt with the place of a clip before the question."""
        raise Unsupported(str(self.no_clip))

    def render_shown(self, question: str, shown: Shown) -> str:
        """The prompt for what is shown with the question."""
        if shown.frames:
            return self.render_clip(question)
        count = len(shown.pictures)
        return self.render(question) if count == 1 else self.render_several(question, count)

    @property
    def prompt_format(self) -> PromptFormat:
        """How the processor turns a rendered prompt and a picture into token ids."""
        return PICTURE_IN_TEXT

    @property
    def image_token_id(self) -> int:
        return int(self.config.image_token_id)

    @cached_property
    def template(self) -> tuple[str, str]:
        """What the prompt has before and after the question."""
        before, _, after = self.render(QUESTION_PLACEHOLDER).partition(QUESTION_PLACEHOLDER)
        return before, after

    def question_token_ends(self, question: str) -> list[int]:
        """Where each token of the question ends when the question is in the template."""
        before, after = self.template
        start, stop = len(before), len(before) + len(question)
        offsets = self.tokenizer(before + question + after, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        return [min(e, stop) - start for s, e in offsets if s < stop and e > start]

    def count_question_tokens(self, question: str) -> int | None:
        """How many tokens of the prompt are the question's; None where it cannot be told."""
        return len(self.question_token_ends(question))

    def escape_special_tokens(self, question: str) -> str:
        """The question with a space inside whatever the tokenizer takes for a special token."""
        return escape_special_texts(question, self.special_texts)

    @cached_property
    def special_texts(self) -> tuple[str, ...]:
        """The texts that become special tokens."""
        added = {str(token) for token in self.tokenizer.added_tokens_decoder.values()}
        return tuple(sorted(added | set(self.tokenizer.all_special_tokens)))

    # Pictures and their sizes

    @abstractmethod
    def encode(self, pictures: Sequence[Image.Image], texts: Sequence[str], side: int) -> Any:
        """The network's inputs for pictures at `img_size` side and rendered prompts.

        The pictures of all prompts stand in a row, in the order of their places in the prompts.
        """

    def encode_native(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> Any:
        """The same with pictures in whatever size the processor gives them by itself."""
        raise ConfigError("img_size", None, "allowed is a side in pixels")

    def encode_shown(self, shown: Sequence[Shown], texts: Sequence[str], side: int | None) -> Any:
        """The same for prompts with any number of pictures; those of all prompts in a row."""
        if any(one.frames for one in shown):
            raise Unsupported(str(self.no_clip))
        pictures = [picture for one in shown for picture in one.pictures]
        if side is None:
            return self.encode_native(pictures, texts)
        return self.encode(pictures, texts, side)

    @property
    @abstractmethod
    def multiple(self) -> int:
        """Both sides of a picture are multiples of this many pixels."""

    @property
    def keeps_aspect_ratio(self) -> bool:
        return self.fit == "area"

    @property
    def patch_format(self) -> PatchFormat | None:
        """How pixels are flattened into patches; None where the network takes whole pictures."""
        return None

    @property
    def grid_patch(self) -> int | None:
        """Side of the patches in `image_grid_thw`; None where the network takes no grid."""
        return None

    def snap_side(self, side: int) -> int:
        """The side of a square picture that is processed when `side` is requested."""
        return snap_side(side, self.multiple)

    def size_for(self, picture: Image.Image, side: int) -> tuple[int, int]:
        """Width and height that the network gets for a picture."""
        if not self.keeps_aspect_ratio:
            return self.snap_side(side), self.snap_side(side)
        scale = side / math.sqrt(picture.width * picture.height) / self.multiple
        width, height = (
            max(1, round(length * scale)) * self.multiple
            for length in (picture.width, picture.height)
        )
        return width, height

    def resize(self, pictures: Sequence[Image.Image], side: int) -> list[Image.Image]:
        """The pictures in the sizes that the network gets, with the processor's filter."""
        resample = self.processor.image_processor.resample
        return [p.resize(self.size_for(p, side), resample=resample) for p in pictures]

    @abstractmethod
    def picture_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        """Width and height of each picture and then of each clip, from the network's inputs."""

    def frame_counts(self, inputs: Mapping[str, Tensor]) -> list[int]:
        """How many frames of each of them the network sees, those it merges in time as one."""
        return [1] * len(self.picture_sizes(inputs))

    @abstractmethod
    def noise_inputs(
        self, sizes: Sequence[tuple[int, int]], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The network's inputs for pictures of random noise: width and height of each."""

    # Tokens

    @cached_property
    def visual_token_ids(self) -> tuple[int, ...]:
        """The tokens that are in a prompt only because of a picture."""
        return (self.image_token_id,)

    def count_visual_tokens(self, ids: Tensor) -> Tensor:  # [B, S] -> [B]
        return (ids == self.image_token_id).sum(dim=1)

    def decode(self, tokens: Tensor) -> list[str]:
        """Answers as text."""
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts]
