"""What the settings of an optimization may be, known before a framework is imported.

That a value is of the kind that its yaml has is checked where configurations are read; here stand
the rules that no default tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from profiling.errors import ConfigError, require_one_of, require_whole

BITSANDBYTES, TORCHAO = "bitsandbytes", "torchao"
ENGINES = (BITSANDBYTES, TORCHAO)
CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
ONNX_LAYOUTS = ("single", "parts", "half")
_CHOICES: dict[str, dict[str, tuple[object, ...]]] = {
    "compile": {
        "backend": ("inductor", "aot_eager"),
        "mode": (
            None,
            "default",
            "reduce-overhead",
            "max-autotune-no-cudagraphs",
            "max-autotune",
        ),
    },
    "int4": {"engine": ENGINES},
    "int8": {"engine": ENGINES},
    "onnx_vision": {"layout": ONNX_LAYOUTS, "quantize": (None, "int8", "int4")},
}
_FROM_ONE = {"onnx_vision": ("parts",), "vision_cache": ("max_bytes",)}
_BY_NAME = {"onnx_vision": ("provider_options",)}
_PROVIDERS = {"onnx_vision": ("provider",)}
# Settings that mean something beside some values of another setting only.
_NEEDS: dict[str, tuple[tuple[str, str, tuple[object, ...]], ...]] = {
    "int4": (("double", "engine", (BITSANDBYTES,)),),
    "int8": (("outlier_threshold", "engine", (BITSANDBYTES,)),),
    "onnx_vision": (
        ("quantize", "layout", ("single",)),
        ("optimize", "layout", ("single",)),
        # What other providers make of a graph cannot be kept.
        ("optimize", "provider", (None, CPU_PROVIDER, CUDA_PROVIDER)),
    ),
}


def check_settings(name: str, settings: Mapping[str, Any], shipped: Mapping[str, Any]) -> None:
    """Refuse a value that an optimization cannot have, or that would be ignored without a word."""
    prefix = f"optimization.{name}"
    for key, allowed in _CHOICES.get(name, {}).items():
        require_one_of(f"{prefix}.{key}", settings[key], allowed)
    for key in _FROM_ONE.get(name, ()):
        require_whole(f"{prefix}.{key}", settings[key], at_least=1)
    for key in _BY_NAME.get(name, ()):
        if not isinstance(settings[key], Mapping | None):
            raise ConfigError(f"{prefix}.{key}", settings[key], "allowed are options by name")
    for key in _PROVIDERS.get(name, ()):
        # Without the runtime, that it is missing is what is said, and by the worker.
        if settings[key] is not None and find_spec("onnxruntime"):
            from onnxruntime import get_all_providers

            require_one_of(f"{prefix}.{key}", settings[key], (*get_all_providers(), None))
    for key, other, needed in _NEEDS.get(name, ()):
        if settings[key] != shipped[key] and settings[other] not in needed:
            beside = " or ".join("null" if one is None else str(one) for one in needed)
            reason = f"allowed beside {other}={beside}, not {settings[other]}"
            raise ConfigError(f"{prefix}.{key}", settings[key], reason)
