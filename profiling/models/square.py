"""What families share whose vision part is a transformer that sees a square."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from profiling.models import analytic
from profiling.models.family import Family
from profiling.models.geometry import Geometry


class SquareFamily(Family):
    """The library's image processor makes the square; patches and a class token go in."""

    keeps_aspect_ratio = False

    @abstractmethod
    def sizing(self, side: int) -> dict[str, Any]:
        """How the image processor is told which square to make."""

    @property
    def multiple(self) -> int:
        return int(self.config.vision_config.patch_size)

    def encode(self, pictures: Sequence[Image.Image], texts: Sequence[str], side: int) -> Any:
        return self.processor(
            images=list(pictures),
            text=list(texts),
            padding=True,
            return_tensors="pt",
            **self.sizing(self.seen_side(side)),
        )

    def seen_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        height, width = inputs["pixel_values"].shape[-2:]
        return [(width, height)] * len(inputs["pixel_values"])

    def picture_inputs(
        self, sizes: Sequence[tuple[int, int]], generator: torch.Generator
    ) -> dict[str, Tensor]:
        ((width, height),) = set(sizes)
        return {"pixel_values": torch.randn(len(sizes), 3, height, width, generator=generator)}

    def single_pictures(self, pixels: Tensor, named: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        return [{"pixel_values": picture} for picture in pixels.split(1)]

    def as_pictures(self, embeddings: Tensor, count: int) -> Tensor:
        return embeddings.unflatten(0, (count, -1))

    def vision_flops(self, geometry: Geometry) -> int:
        vision = self.config.vision_config
        stack = analytic.encoder(
            layers=int(vision.num_hidden_layers),
            width=int(vision.hidden_size),
            inner_width=int(vision.intermediate_size),
            inner_matrices=2,
        )
        return sum(
            analytic.linear(patches, 3 * self.multiple**2, stack.width)
            + stack.forward(patches + 1, patches + 1)
            for patches in geometry.patches(self.multiple)
        )
