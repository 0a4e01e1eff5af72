"""BLIP-2 with an OPT decoder."""

from __future__ import annotations

from profiling.models.blip2 import Blip2
from profiling.models.family import Parts


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


FAMILY = Blip2Opt
