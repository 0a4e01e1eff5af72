"""How BLIP-2 with OPT processes prompts and pictures."""

from __future__ import annotations

from profiling.models.blip2.processing import Blip2Processing


class Blip2OptProcessing(Blip2Processing):
    """As in both families."""
