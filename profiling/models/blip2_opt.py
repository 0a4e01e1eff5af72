"""BLIP-2 with an OPT decoder."""

from __future__ import annotations

from typing import Any

import torch

from profiling.models.blip2 import Blip2
from profiling.models.family import Parts
from profiling.models.geometry import Geometry, blank


class Blip2Opt(Blip2):
    parts = Parts(
        vision="vision_model",
        projector=("qformer", "language_projection"),
        language="language_model",
        head="language_model.lm_head",
        text_encoder=None,
    )
    inner_matrices = 2

    @property
    def decoder(self) -> str:
        return "language_model.model"

    def decoder_inputs(self, geometry: Geometry, rows: int, columns: int) -> dict[str, Any]:
        # Left to itself, the decoder looks into a mask for what is padding.
        return {
            "attention_mask": blank(geometry.batch_size, 1, rows, columns),
            "position_ids": blank(geometry.batch_size, rows, dtype=torch.long),
        }


FAMILY = Blip2Opt
