"""BLIP-2 with an OPT decoder."""

from __future__ import annotations

from profiling.models.blip2_opt.costs import Blip2OptCosts
from profiling.models.blip2_opt.network import Blip2OptLayout
from profiling.models.blip2_opt.processing import Blip2OptProcessing
from profiling.models.family import FamilyDefinition

FAMILY = FamilyDefinition(
    name="blip2_opt", processing=Blip2OptProcessing, layout=Blip2OptLayout, costs=Blip2OptCosts
)
