"""What `optimization.onnx_vision` may be given."""

from __future__ import annotations

from importlib.util import find_spec

from profiling.graphs.choices import LAYOUTS
from profiling.points.settings import Settings
from profiling.runtimes.providers import CPU_PROVIDER, CUDA_PROVIDER

# More than any vision part has blocks.
_MOST_PARTS = 1024


def check(settings: Settings) -> None:
    settings.require_one_of("layout", LAYOUTS)
    settings.require_one_of("quantize", (None, "int8", "int4"))
    settings.require_whole("parts", at_least=1, at_most=_MOST_PARTS)
    settings.require_options("provider_options")
    _check_provider(settings)
    settings.require_beside("quantize", "layout", ("single",))
    settings.require_beside("optimize", "layout", ("single",))
    # Graphs that other providers rewrote cannot be stored.
    settings.require_beside("optimize", "provider", (None, CPU_PROVIDER, CUDA_PROVIDER))


def _check_provider(settings: Settings) -> None:
    # Without the runtime, the worker says that it is missing.
    if settings["provider"] is not None and find_spec("onnxruntime"):
        from onnxruntime import get_all_providers

        settings.require_one_of("provider", (*get_all_providers(), None))
