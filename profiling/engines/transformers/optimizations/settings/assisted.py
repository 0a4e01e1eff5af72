"""What `optimization.assisted` may be given."""

from __future__ import annotations

from profiling.points.settings import Settings


def check(settings: Settings) -> None:
    settings.require_whole("num_tokens", at_least=1)
    if settings["layers"] is not None:
        settings.require_whole("layers", at_least=1)
    if settings["checkpoint"] is not None:
        settings.require_text("checkpoint", "a folder, a hub id, or null")
        settings.require_beside("layers", "checkpoint", [None])
