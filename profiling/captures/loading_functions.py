"""The table of functions that a person names: a file of theirs, or a module by its dotted name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from profiling.captures.functions import TABLE, Function
from profiling.errors import ConfigError

_KEY = "--functions"
_ORIGINAL = "original"


@dataclass(frozen=True, kw_only=True)
class FunctionTable:
    """Functions by the class of the module, and the original where the file says how to make it."""

    source: str
    functions: Mapping[str, Function]
    original: Callable[[], Any] | None


def load_functions(name: str) -> FunctionTable:
    module = _import(name)
    table = getattr(module, TABLE, None)
    if not isinstance(table, Mapping) or not table:
        reason = f"has no table {TABLE} of functions by the class of the module"
        raise ConfigError(_KEY, name, reason)
    for kind, function in table.items():
        if not isinstance(kind, str) or not callable(function):
            raise ConfigError(_KEY, name, f"{TABLE}[{kind!r}] is not a function for a class name")
    return FunctionTable(
        source=name, functions=dict(table), original=getattr(module, _ORIGINAL, None)
    )


def _import(name: str) -> ModuleType:
    path = Path(name)
    try:
        if path.suffix == ".py":
            return _import_file(path)
        return importlib.import_module(name)
    except ConfigError:
        raise
    except Exception as error:
        told = f"cannot be imported: {type(error).__name__}: {error}"
        raise ConfigError(_KEY, name, told) from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(_KEY, path, "there is no such file")
    spec = importlib.util.spec_from_file_location(f"functions_in_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by its name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
