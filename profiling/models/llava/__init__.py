"""LLaVA-1.5: a CLIP vision tower, a two-layer projector and a Llama decoder."""

from __future__ import annotations

from profiling.models.family import FamilyDefinition
from profiling.models.llava.costs import LlavaCosts
from profiling.models.llava.network import LlavaLayout
from profiling.models.llava.processing import LlavaProcessing

FAMILY = FamilyDefinition(
    name="llava", processing=LlavaProcessing, layout=LlavaLayout, costs=LlavaCosts
)
