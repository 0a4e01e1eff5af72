"""What LLaVA-1.5 costs."""

from __future__ import annotations

from typing import Any

from profiling.models import analytic
from profiling.models.geometry import Geometry, blank
from profiling.models.square import SquareCosts


class LlavaCosts(SquareCosts):
    """The projector reads the patches without the class token."""

    def vision_inputs(self, geometry: Geometry) -> dict[str, Any]:
        width, height = geometry.sizes[0]
        pixels = blank(geometry.num_pictures, 3, height, width)
        return {"pixel_values": pixels, "interpolate_pos_encoding": True}

    def projector_inputs(self, geometry: Geometry) -> list[dict[str, Any]]:
        (patches,) = set(geometry.patches(self.patch))
        width = int(self.config.vision_config.hidden_size)
        return [{"image_features": blank(geometry.num_pictures, patches, width)}]

    def projector_flops(self, geometry: Geometry) -> int:
        rows = sum(geometry.patches(self.patch))
        vision, text = self.config.vision_config.hidden_size, self.config.text_config.hidden_size
        return analytic.linear(rows, vision, text) + analytic.linear(rows, text, text)
