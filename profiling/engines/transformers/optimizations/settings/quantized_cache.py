"""What `optimization.quantized_cache` may be given."""

from __future__ import annotations

from profiling.points.settings import Settings

_BITS = {"fp8": (8,), "quanto": (4, 2), "hqq": (8, 4, 2)}


def check(settings: Settings) -> None:
    settings.require_one_of("backend", list(_BITS))
    settings.require_one_of("bits", _BITS[settings["backend"]])
    settings.require_whole("group", at_least=1)
    settings.require_whole("residual", at_least=1)
    for name in ("group", "residual"):
        settings.require_beside(name, "backend", ["quanto", "hqq"])
