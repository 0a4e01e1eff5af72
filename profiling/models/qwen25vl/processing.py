"""How Qwen2.5-VL processes prompts and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, Qwen2_5_VLProcessor, Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin
from transformers.video_utils import VideoMetadata

from profiling.models.processing import PatchFormat, Processing, Shown


class ClipProcessor:
    """The half of the library's processor for videos, made of the one for pictures.

    The library's own requires torchvision. Frames are sized before, and none is left out.
    """

    def __init__(self, pictures: Any) -> None:
        self.pictures = pictures
        self.merge_size = int(pictures.merge_size)
        self.temporal_patch_size = int(pictures.temporal_patch_size)

    def __call__(
        self, videos: Sequence[Any], *, video_metadata: Sequence[VideoMetadata], **_: Any
    ) -> dict[str, Any]:
        encoded = [self._encode(frames) for frames in videos]
        return {
            "pixel_values_videos": torch.cat([patches for patches, _ in encoded]),
            "video_grid_thw": torch.tensor([grid for _, grid in encoded]),
            "video_metadata": list(video_metadata),
        }

    def _encode(self, frames: Any) -> tuple[Tensor, list[int]]:
        """The patches of a clip, each of as many frames as are joined in time, and their grid."""
        joined = self.temporal_patch_size
        made = self.pictures(images=list(frames), do_resize=False, return_tensors="pt")
        _, rows, columns = made["image_grid_thw"][0].tolist()
        values = made["pixel_values"].unflatten(0, (len(frames), -1))
        # Of a picture, all frames of a patch are the same.
        one = values.unflatten(-1, (-1, joined, int(self.pictures.patch_size) ** 2))[:, :, :, 0]
        # The last frame again, where the frames do not fill the last patches.
        one = torch.cat([one, one[-1:].expand(-len(one) % joined, -1, -1, -1)])
        patches = one.unflatten(0, (-1, joined)).permute(0, 2, 3, 1, 4)
        return patches.flatten(2).flatten(0, 1), [len(patches), rows, columns]


class PictureProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
    """The library's processor with a video processor that does not require torchvision."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(
            self, image_processor, tokenizer, chat_template=tokenizer.chat_template
        )
        self.video_processor = ClipProcessor(image_processor)


class Qwen25VLProcessing(Processing):
    """Pictures become rows of patches, and a grid says how many rows and columns each has."""

    fit = "area"
    one_picture = None
    no_clip = None

    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        return PictureProcessor(
            image_processor=Qwen2VLImageProcessorPil.from_pretrained(folder, **options),
            tokenizer=AutoTokenizer.from_pretrained(folder, **options),
        )

    @property
    def multiple(self) -> int:
        vision = self.config.vision_config
        return int(vision.patch_size * vision.spatial_merge_size)

    @property
    def patch_format(self) -> PatchFormat:
        vision = self.config.vision_config
        return PatchFormat(
            patch=self.grid_patch,
            merge=int(vision.spatial_merge_size),
            frames=int(vision.temporal_patch_size),
            channels_last=False,
        )

    @property
    def grid_patch(self) -> int:
        return int(self.config.vision_config.patch_size)

    def render(self, question: str) -> str:
        return self.render_several(question, 1)

    def render_several(self, question: str, pictures: int) -> str:
        return self._render(question, [{"type": "image"}] * pictures)

    def render_clip(self, question: str) -> str:
        rendered = self._render(question, [{"type": "video"}])
        if self.processor.video_token in rendered:
            return rendered
        # A chat template that was written for pictures alone: a clip has the place of one.
        return self.render(question).replace(self.processor.image_token, self.processor.video_token)

    def _render(self, question: str, places: list[dict[str, str]]) -> str:
        content = [*places, {"type": "text", "text": question}]
        return str(
            self.processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
        )

    def encode(self, pictures: Sequence[Image.Image], texts: Sequence[str], side: int) -> Any:
        sized = self.resize(pictures, side)
        return self.processor(
            images=sized, text=list(texts), do_resize=False, padding=True, return_tensors="pt"
        )

    def encode_shown(self, shown: Sequence[Shown], texts: Sequence[str], side: int | None) -> Any:
        clips = [one for one in shown if one.frames]
        if side is None or not clips:
            return super().encode_shown(shown, texts, side)
        pictures = [picture for one in shown for picture in one.pictures]
        return self.processor(
            images=self.resize(pictures, side) or None,
            videos=[
                numpy.stack([numpy.asarray(frame) for frame in self.resize(clip.frames, side)])
                for clip in clips
            ],
            video_metadata=[
                VideoMetadata(total_num_frames=len(clip.frames), fps=clip.fps) for clip in clips
            ],
            text=list(texts),
            do_resize=False,
            padding=True,
            return_tensors="pt",
        )

    @cached_property
    def visual_token_ids(self) -> tuple[int, ...]:
        return (self.image_token_id, int(self.config.video_token_id))

    def count_visual_tokens(self, ids: Tensor) -> Tensor:
        return torch.isin(ids, torch.tensor(self.visual_token_ids, device=ids.device)).sum(dim=1)

    def _grids(self, inputs: Mapping[str, Tensor]) -> list[list[int]]:
        """Frames, rows and columns of patches of each picture and then of each clip."""
        given = (inputs.get(name) for name in ("image_grid_thw", "video_grid_thw"))
        return [grid for grids in given if grids is not None for grid in grids.tolist()]

    def picture_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        patch = self.grid_patch
        return [(w * patch, h * patch) for _, h, w in self._grids(inputs)]

    def frame_counts(self, inputs: Mapping[str, Tensor]) -> list[int]:
        return [frames for frames, _, _ in self._grids(inputs)]

    def noise_inputs(
        self, sizes: Sequence[tuple[int, int]], generator: torch.Generator
    ) -> dict[str, Tensor]:
        vision, patch = self.config.vision_config, self.grid_patch
        grids = torch.tensor([[1, height // patch, width // patch] for width, height in sizes])
        values = int(vision.in_channels * vision.temporal_patch_size * patch**2)
        return {
            "pixel_values": torch.randn(int(grids.prod(-1).sum()), values, generator=generator),
            "image_grid_thw": grids,
        }
