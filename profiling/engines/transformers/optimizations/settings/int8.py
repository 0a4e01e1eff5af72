"""What `optimization.int8` may be given."""

from __future__ import annotations

from profiling.models.quantizers import BITSANDBYTES, QUANTIZERS
from profiling.points.settings import Settings


def check(settings: Settings) -> None:
    settings.require_one_of("engine", QUANTIZERS)
    settings.require_beside("outlier_threshold", "engine", (BITSANDBYTES,))
