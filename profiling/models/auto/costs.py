"""What a checkpoint of any architecture costs: counted while it runs, since no arithmetic is known.

Every method that another family answers from its configuration says so.
"""

from __future__ import annotations

from typing import Any

from profiling.errors import Unsupported
from profiling.models import analytic
from profiling.models.costs import FamilyCosts
from profiling.models.geometry import Geometry

_REASON = "model=auto: its operators are counted on the running network, nothing by arithmetic"


class AutoCosts(FamilyCosts):
    counted_running = _REASON

    def vision_inputs(self, geometry: Geometry) -> dict[str, Any]:
        raise Unsupported(_REASON)

    def vision_flops(self, geometry: Geometry) -> int:
        raise Unsupported(_REASON)

    @property
    def decoder_stack(self) -> analytic.Stack:  # type: ignore[override]
        raise Unsupported(_REASON)
