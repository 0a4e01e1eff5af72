"""What BLIP-2 with OPT costs."""

from __future__ import annotations

from typing import Any

import torch

from profiling.models.blip2.costs import Blip2Costs
from profiling.models.geometry import Geometry, blank


class Blip2OptCosts(Blip2Costs):
    """OPT's feed-forward part is not gated."""

    feed_forward_matrices = 2

    def decoder_inputs(self, geometry: Geometry, rows: int, columns: int) -> dict[str, Any]:
        # Without them the decoder reads values of a mask, and there are none.
        return {
            "attention_mask": blank(geometry.batch_size, 1, rows, columns),
            "position_ids": blank(geometry.batch_size, rows, dtype=torch.long),
        }
