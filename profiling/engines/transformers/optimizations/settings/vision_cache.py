"""What `optimization.vision_cache` may be given."""

from __future__ import annotations

from profiling.points.settings import Settings


def check(settings: Settings) -> None:
    settings.require_whole("max_bytes", at_least=1)
