"""What Qwen2.5-VL costs."""

from __future__ import annotations

from typing import Any

import torch

from profiling.models import analytic
from profiling.models.costs import FamilyCosts
from profiling.models.geometry import Geometry, blank


class Qwen25VLCosts(FamilyCosts):
    """Most vision layers attend within windows, some within the whole picture."""

    def vision_inputs(self, geometry: Geometry) -> dict[str, Any]:
        patch = int(self.config.vision_config.patch_size)
        patches = sum(geometry.patches(patch))
        return {
            "hidden_states": blank(patches, self._patch_values),
            # The grid has values, because the windows are computed from them.
            "grid_thw": torch.tensor(
                [
                    [frames, h // patch, w // patch]
                    for frames, (w, h) in zip(geometry.frame_counts, geometry.sizes, strict=True)
                ]
            ),
            "position_ids": blank(patches, 2),
        }

    def projector_inputs(self, geometry: Geometry) -> list[dict[str, Any]]:
        vision = self.config.vision_config
        return [{"x": blank(sum(geometry.patches(vision.patch_size)), vision.hidden_size)}]

    def vision_flops(self, geometry: Geometry) -> int:
        vision = self.config.vision_config
        stack = analytic.encoder(
            layers=int(vision.depth),
            width=int(vision.hidden_size),
            inner_width=int(vision.intermediate_size),
            inner_matrices=3,
        )
        whole = len(vision.fullatt_block_indexes)
        flops = 0
        patches_of_all = geometry.patches(vision.patch_size)
        for size, frames, patches in zip(
            geometry.sizes, geometry.frame_counts, patches_of_all, strict=True
        ):
            flops += analytic.linear(patches, self._patch_values, stack.width) + stack.rows(patches)
            # Patches attend within their own frame at most.
            one = patches // frames
            flops += frames * whole * analytic.attention(one, one, stack.width)
            for window in self._windows(*size):
                attention = analytic.attention(window, window, stack.width)
                flops += frames * (stack.layers - whole) * attention
        return flops

    def projector_flops(self, geometry: Geometry) -> int:
        vision = self.config.vision_config
        rows = sum(geometry.patches(self._merged_side))
        merged = vision.hidden_size * vision.spatial_merge_size**2
        out = vision.out_hidden_size
        return analytic.linear(rows, merged, merged) + analytic.linear(rows, merged, out)

    @property
    def _merged_side(self) -> int:
        """Side in pixels of the square that becomes one visual token."""
        vision = self.config.vision_config
        return int(vision.patch_size * vision.spatial_merge_size)

    @property
    def _patch_values(self) -> int:
        vision = self.config.vision_config
        return int(vision.in_channels * vision.temporal_patch_size * vision.patch_size**2)

    def _windows(self, width: int, height: int) -> list[int]:
        """The number of patches in each attention window of a picture, or of a frame."""
        vision = self.config.vision_config
        side = vision.window_size // self._merged_side
        columns, rows = width // self._merged_side, height // self._merged_side
        return [
            min(side, columns - left) * min(side, rows - top) * vision.spatial_merge_size**2
            for top in range(0, rows, side)
            for left in range(0, columns, side)
        ]
