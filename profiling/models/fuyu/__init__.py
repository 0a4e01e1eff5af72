"""Fuyu: picture patches go into the decoder through one linear layer."""

from __future__ import annotations

from profiling.models.family import FamilyDefinition
from profiling.models.fuyu.costs import FuyuCosts
from profiling.models.fuyu.network import FuyuLayout
from profiling.models.fuyu.processing import FuyuProcessing

FAMILY = FamilyDefinition(
    name="fuyu", processing=FuyuProcessing, layout=FuyuLayout, costs=FuyuCosts
)
