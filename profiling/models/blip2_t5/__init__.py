"""BLIP-2 with a flan-T5: its encoder reads picture and prompt, its decoder answers."""

from __future__ import annotations

from profiling.models.blip2_t5.costs import Blip2T5Costs
from profiling.models.blip2_t5.network import Blip2T5Layout
from profiling.models.blip2_t5.processing import Blip2T5Processing
from profiling.models.family import FamilyDefinition

FAMILY = FamilyDefinition(
    name="blip2_t5", processing=Blip2T5Processing, layout=Blip2T5Layout, costs=Blip2T5Costs
)
