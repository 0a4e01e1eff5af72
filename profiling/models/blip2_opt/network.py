"""The layout of BLIP-2's network with OPT."""

from __future__ import annotations

from profiling.models.blip2.network import Blip2Layout
from profiling.models.network import Parts


class Blip2OptLayout(Blip2Layout):
    """The language part holds the decoder and the head."""

    parts = Parts(
        vision="vision_model",
        projector=("qformer", "language_projection"),
        language="language_model",
        head="language_model.lm_head",
        text_encoder=None,
    )

    @property
    def decoder(self) -> str:
        return "language_model.model"

    @property
    def decoder_stack(self) -> str:
        # The head calls it directly, not the module around it.
        return f"{self.decoder}.decoder"
