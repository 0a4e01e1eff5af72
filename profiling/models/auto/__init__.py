"""Any checkpoint that the library's AutoModelForImageTextToText loads, by rules instead of a file.

The parts are found from the library's own names and proved on the loaded network.
"""

from __future__ import annotations

from profiling.models.auto.costs import AutoCosts
from profiling.models.auto.network import AutoLayout
from profiling.models.auto.processing import AutoProcessing
from profiling.models.family import FamilyDefinition

FAMILY = FamilyDefinition(
    name="auto", processing=AutoProcessing, layout=AutoLayout, costs=AutoCosts
)
