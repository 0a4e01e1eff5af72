"""What Fuyu costs."""

from __future__ import annotations

from typing import Any

from profiling.models import analytic
from profiling.models.costs import FamilyCosts
from profiling.models.geometry import Geometry, blank


class FuyuCosts(FamilyCosts):
    """The vision part is one matrix product."""

    feed_forward_matrices = 2

    def vision_inputs(self, geometry: Geometry) -> dict[str, Any]:
        return {"input": blank(self._patches(geometry), self._patch_values)}

    def vision_flops(self, geometry: Geometry) -> int:
        width = self.config.text_config.hidden_size
        return analytic.linear(self._patches(geometry), self._patch_values, width)

    def _patches(self, geometry: Geometry) -> int:
        return sum(geometry.patches(int(self.config.patch_size)))

    @property
    def _patch_values(self) -> int:
        return int(self.config.num_channels * self.config.patch_size**2)
