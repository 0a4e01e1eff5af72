"""A profiling research harness for vision-language models.

docs/python_api.md explains the names in `__all__`. Each is imported when it is first used, so that
`import profiling` stays light.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["Pair", "Results", "compare", "load", "measure_pair", "predict", "run"]

PACKAGE = Path(__file__).resolve().parent
# A wheel carries what a checkout has beside the package (conf, checkpoints, datasets) inside of it.
_CARRIED = PACKAGE / "project"
PROJECT = _CARRIED if _CARRIED.is_dir() else PACKAGE.parent

# ONNX Runtime reads it when it is imported, and otherwise keeps a database in the user's cache.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def import_path() -> str:
    """PYTHONPATH for a process that has to find this package, before what was there."""
    own = str(PACKAGE.parent)
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([own, *(folder for folder in before if folder not in ("", own))])


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("profiling.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
