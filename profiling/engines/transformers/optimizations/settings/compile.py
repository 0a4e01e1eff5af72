"""What `optimization.compile` may be given."""

from __future__ import annotations

from profiling.points.settings import Settings

_MODES = (None, "default", "reduce-overhead", "max-autotune-no-cudagraphs", "max-autotune")


def check(settings: Settings) -> None:
    settings.require_one_of("backend", ("inductor", "aot_eager"))
    settings.require_one_of("mode", _MODES)
