"""Shared by families whose vision part is a transformer over the patches of a square picture."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from profiling.models import analytic
from profiling.models.costs import FamilyCosts
from profiling.models.geometry import Geometry
from profiling.models.network import Layout
from profiling.models.processing import Processing


class SquareProcessing(Processing):
    """The library's image processor makes the square."""

    @abstractmethod
    def size_options(self, side: int) -> dict[str, Any]:
        """The processor's options for a square with this side."""

    @property
    def multiple(self) -> int:
        return int(self.config.vision_config.patch_size)

    def encode(self, pictures: Sequence[Image.Image], texts: Sequence[str], side: int) -> Any:
        return self.processor(
            images=list(pictures),
            text=list(texts),
            padding=True,
            return_tensors="pt",
            **self.size_options(self.snap_side(side)),
        )

    def picture_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        height, width = inputs["pixel_values"].shape[-2:]
        return [(width, height)] * len(inputs["pixel_values"])

    def noise_inputs(
        self, sizes: Sequence[tuple[int, int]], generator: torch.Generator
    ) -> dict[str, Tensor]:
        ((width, height),) = set(sizes)
        return {"pixel_values": torch.randn(len(sizes), 3, height, width, generator=generator)}


class SquareLayout(Layout):
    """Pictures of one batch have one size, so pixels and embeddings have a picture axis."""

    def split_pictures(
        self, pixels: Tensor, arguments: Mapping[str, Any]
    ) -> list[dict[str, Tensor]]:
        return [{"pixel_values": picture} for picture in pixels.split(1)]

    def group_by_picture(self, embeddings: Tensor, count: int) -> Tensor:
        return embeddings.unflatten(0, (count, -1))


class SquareCosts(FamilyCosts):
    """The vision part reads all patches and a class token."""

    @property
    def patch(self) -> int:
        return int(self.config.vision_config.patch_size)

    def vision_flops(self, geometry: Geometry) -> int:
        vision = self.config.vision_config
        stack = analytic.encoder(
            layers=int(vision.num_hidden_layers),
            width=int(vision.hidden_size),
            inner_width=int(vision.intermediate_size),
            inner_matrices=2,
        )
        return sum(
            analytic.linear(patches, 3 * self.patch**2, stack.width)
            + stack.forward(patches + 1, patches + 1)
            for patches in geometry.patches(self.patch)
        )
