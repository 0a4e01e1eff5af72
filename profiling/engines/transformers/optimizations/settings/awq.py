"""What `optimization.awq` may be given."""

from __future__ import annotations

from profiling.points.readers import LARGEST_SEED
from profiling.points.settings import Settings

_BITS = (4, 8)
_MOST = 1_000_000


def check(settings: Settings) -> None:
    settings.require_one_of("bits", _BITS)
    settings.require_whole("group", at_least=16, at_most=_MOST)
    settings.require_whole("steps", at_least=1, at_most=1000)
    settings.require_whole("calibration", at_least=1, at_most=_MOST)
    settings.require_whole("rows", at_least=1, at_most=_MOST)
    settings.require_whole("seed", at_least=0, at_most=LARGEST_SEED)
