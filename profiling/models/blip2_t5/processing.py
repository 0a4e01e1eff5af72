"""How BLIP-2 with flan-T5 processes prompts and pictures."""

from __future__ import annotations

from profiling.models.blip2.processing import Blip2Processing


class Blip2T5Processing(Blip2Processing):
    """Pads on the right."""

    # Padding between picture and prompt would change their relative positions.
    padding_side = "right"
