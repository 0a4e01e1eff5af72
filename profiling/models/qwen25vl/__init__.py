"""Qwen2.5-VL: a windowed vision transformer, a merger, a decoder with 3-D positions."""

from __future__ import annotations

from profiling.models.family import FamilyDefinition
from profiling.models.qwen25vl.costs import Qwen25VLCosts
from profiling.models.qwen25vl.network import Qwen25VLLayout
from profiling.models.qwen25vl.processing import Qwen25VLProcessing

FAMILY = FamilyDefinition(
    name="qwen25vl", processing=Qwen25VLProcessing, layout=Qwen25VLLayout, costs=Qwen25VLCosts
)
