"""How the checkpoint's own processor turns prompts and pictures into inputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from profiling.errors import ConfigError, Unsupported, shorten
from profiling.models.auto.processors import load_processor
from profiling.models.processing import Processing, Shown
from profiling.samples.prompt_length import NoSuchLength

QUESTION = "{question}"
_OWN = "model.prompt is one of your own, with {question}"
_IMAGE_TOKENS = ("image_token_id", "image_token_index")
# Where the tensors have pictures whole: rows, tiles of each, channels, height, width.
_PICTURES, _TILES = 4, 5
# Settings of processors whose tiles have a size of their own.
_TILED = ("image_grid_pinpoints", "crop_to_patches", "max_image_tiles")
_PIXELS = ("pixel_values", "flattened_patches")
# Short enough to be a size in pixels, as a template that trims or counts must leave it.
_TRIED = "what is here"


class AutoProcessing(Processing):
    """Sizes are the processor's own, or one that its settings can be made to give."""

    fit = "area"
    # Whether that is so is known when the processor was loaded and asked.
    one_picture = None
    no_clip = "only a model with a file of its own in profiling/models can see clips"

    def __init__(
        self,
        *,
        config: Any,
        folder: Path | str,
        options: Mapping[str, Any],
        prompt: str | None,
    ) -> None:
        # Read while the processor is loaded.
        self.prompt = prompt
        self._nested: bool | None = None
        super().__init__(config=config, folder=folder, options=options, prompt=prompt)
        # Positions that an encoder has learned begin at the left.
        self.tokenizer.padding_side = "right" if config.is_encoder_decoder else "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        processor = load_processor(str(folder), self.config.model_type, options)
        if self.prompt is None and not getattr(processor, "chat_template", None):
            told = "the checkpoint has no chat template; allowed is a template with {question}"
            raise ConfigError("model.prompt", None, told)
        return processor

    # Prompts

    def render(self, question: str) -> str:
        if self.prompt is not None:
            return self.prompt.replace(QUESTION, question)
        return self._render(question, 1)

    def render_several(self, question: str, pictures: int) -> str:
        if self.prompt is not None:
            raise Unsupported("model.prompt has the place of one picture, and samples have more")
        rendered = self._render(question, pictures)
        if rendered == self._render(question, 1):
            raise Unsupported("model=auto: the chat template has one place for any pictures")
        return rendered

    def _render(self, question: str, pictures: int) -> str:
        content = [*[{"type": "image"}] * pictures, {"type": "text", "text": question}]
        try:
            rendered = str(
                self.processor.apply_chat_template(
                    [{"role": "user", "content": content}],
                    tokenize=False,
                    add_generation_prompt=True,
                )
            )
        except Exception as error:  # a template can raise anything
            told = shorten(" ".join(f"{type(error).__name__}: {error}".split()))
            raise Unsupported(f"model=auto: the chat template fails: {told}; {_OWN}") from error
        if str(content[0]) in rendered:
            raise Unsupported(f"model=auto: the chat template has no place for a picture; {_OWN}")
        return rendered

    def escape_special_tokens(self, question: str) -> str:
        # Some templates trim it, and it has to be the same in all of them.
        return super().escape_special_tokens(question).strip()

    def question_token_ends(self, question: str) -> list[int]:
        if self.no_count is not None:
            raise NoSuchLength(self.no_count)
        return super().question_token_ends(question)

    def count_question_tokens(self, question: str) -> int | None:
        before, after = self.template
        if self.no_count is not None or self.render(question) != before + question + after:
            return None
        return super().count_question_tokens(question)

    @cached_property
    def no_count(self) -> str | None:
        """Why the question's tokens cannot be counted; None where they can."""
        if not self.tokenizer.is_fast:
            return "its tokenizer does not tell where tokens end"
        before, after = self.template
        if self.render(_TRIED) != before + _TRIED + after:
            return "its chat template changes with the question"
        return None

    @cached_property
    def visual_token_ids(self) -> tuple[int, ...]:
        inner = (getattr(self.config, name, None) for name in ("text_config", "encoder"))
        places = (self.config, *inner, self.processor)
        found = (getattr(place, name, None) for place in places for name in _IMAGE_TOKENS)
        return tuple(dict.fromkeys(one for one in found if isinstance(one, int)))[:1]

    @property
    def image_token_id(self) -> int:
        return (*self.visual_token_ids, -1)[0]

    def count_visual_tokens(self, ids: Tensor) -> Tensor:
        return torch.isin(ids, torch.tensor(self.visual_token_ids, device=ids.device)).sum(dim=1)

    # Pictures and their sizes

    @property
    def multiple(self) -> int:
        images = self.processor.image_processor
        patch = getattr(images, "patch_size", 1)
        merge = getattr(images, "merge_size", 1)
        return (patch if isinstance(patch, int) else 1) * int(merge or 1)

    def encode_native(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> Any:
        return self._call([[picture] for picture in pictures], texts, {})

    def encode(self, pictures: Sequence[Image.Image], texts: Sequence[str], side: int) -> Any:
        sized, options = self._sized(pictures, side)
        return self._call([[picture] for picture in sized], texts, options)

    def encode_shown(self, shown: Sequence[Shown], texts: Sequence[str], side: int | None) -> Any:
        most = max(len(one.pictures) for one in shown)
        if most == 1 or any(one.frames for one in shown):
            return super().encode_shown(shown, texts, side)
        pictures = [picture for one in shown for picture in one.pictures]
        options: dict[str, Any] = {}
        if side is not None:
            pictures, options = self._sized(pictures, side)
        waiting = iter(pictures)
        listed = [[next(waiting) for _ in one.pictures] for one in shown]
        try:
            return self._call(listed, texts, options)
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            told = shorten(" ".join(str(error).split()))
            raise Unsupported(
                f"model=auto: the processor fails with {most} pictures a prompt: {told}"
            ) from error

    def _call(
        self,
        listed: Sequence[Sequence[Image.Image]],
        texts: Sequence[str],
        options: Mapping[str, Any],
    ) -> Any:
        """Each prompt's pictures as a list of their own, where the processor takes that."""
        common = {"text": list(texts), "padding": True, "return_tensors": "pt"}
        common |= {**self._modern, **options}
        flat = [picture for own in listed for picture in own]
        if self._nested is None:
            try:
                made = self.processor(images=[*map(list, listed)], **common)
            except (ValueError, TypeError, AttributeError, IndexError):
                self._nested = False
            else:
                self._nested = True
                return made
        return self.processor(images=[*map(list, listed)] if self._nested else flat, **common)

    @cached_property
    def _modern(self) -> dict[str, bool]:
        """What has a processor give tensors by the names that its network takes."""
        name = "return_legacy_image_output"
        known = inspect.signature(type(self.processor).__call__).parameters
        return {name: False} if name in known else {}

    def _sized(
        self, pictures: Sequence[Image.Image], side: int
    ) -> tuple[list[Image.Image], dict[str, Any]]:
        """Pictures, and the settings with which the processor makes them about so large."""
        images = self.processor.image_processor
        for name in _TILED:
            if getattr(images, name, None):
                raise Unsupported(
                    f"img_size={side}: the processor cuts pictures into tiles ({name}), whose size"
                    " is the network's; null profiles it as it is"
                )
        if getattr(images, "merge_size", None):
            # Of any shape, in patches: the size is made here and not changed again.
            return self.resize(pictures, side), {"do_resize": False}
        size = dict(getattr(images, "size", None) or {})
        given = {name for name, value in size.items() if value is not None}
        if given == {"height", "width"}:
            return list(pictures), {"size": {"height": side, "width": side}}
        if given == {"shortest_edge"}:
            square = {"crop_size": {"height": side, "width": side}}
            crop = square if getattr(images, "do_center_crop", False) else {}
            return list(pictures), {"size": {"shortest_edge": side}, **crop}
        if given == {"longest_edge"} or given == {"shortest_edge", "longest_edge"}:
            sized = self.resize(pictures, side)
            longest = max(max(picture.size) for picture in sized)
            least = {"shortest_edge": 1} if "shortest_edge" in given else {}
            return sized, {"size": {**least, "longest_edge": longest}}
        raise Unsupported(f"img_size={side}: the processor has no size that is known how to set")

    def resize(self, pictures: Sequence[Image.Image], side: int) -> list[Image.Image]:
        resample = getattr(self.processor.image_processor, "resample", None)
        return [p.resize(self.size_for(p, side), resample=resample) for p in pictures]

    def picture_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        """Width and height of each picture; 0 by 0 where the tensors do not tell."""
        rows = len(inputs["input_ids"])
        pixels, grids = inputs.get("pixel_values"), inputs.get("image_grid_thw")
        if grids is not None and len(grids) >= rows:
            patch = int(self.processor.image_processor.patch_size)
            return [(int(w) * patch, int(h) * patch) for _, h, w in grids.tolist()]
        if pixels is None:
            return [(0, 0)] * rows
        if pixels.ndim == _TILES and pixels.shape[1] == 1:
            pixels = pixels[:, 0]
        if pixels.ndim != _PICTURES or len(pixels) < rows:
            return [(0, 0)] * rows
        sizes = inputs.get("image_sizes")
        if sizes is not None and len(sizes) == len(pixels):
            # Without what was added to make pictures of one batch equally large.
            return [(int(width), int(height)) for height, width in sizes.tolist()]
        height, width = pixels.shape[-2:]
        return [(width, height)] * len(pixels)

    def count_pixels(self, inputs: Mapping[str, Tensor]) -> int:
        """How many pixels the network gets, tiles and padding among them."""
        vision = getattr(self.config, "vision_config", None)
        (pixels, *_) = [inputs[name] for name in _PIXELS if name in inputs]
        flat = "image_grid_thw" in inputs and pixels.ndim < _PICTURES
        frames = int(getattr(vision, "temporal_patch_size", 1) or 1) if flat else 1
        return pixels.numel() // 3 // frames

    def noise_inputs(
        self, sizes: Sequence[tuple[int, int]], generator: torch.Generator
    ) -> dict[str, Tensor]:
        raise Unsupported("model=auto: only the checkpoint's processor makes inputs of pictures")
