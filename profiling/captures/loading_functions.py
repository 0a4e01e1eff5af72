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

from torch import nn

from profiling.captures.functions import TABLE, Function
from profiling.errors import ConfigError, describe_error

_KEY = "--functions"
_ORIGINAL = "original"


@dataclass(frozen=True, kw_only=True)
class FunctionTable:
    """Functions by the class of the module, and the original where the file says how to make it."""

    source: str
    functions: Mapping[str, Function]
    original: Callable[[], Any] | None

    def make_original(self) -> nn.Module | None:
        """The module that the file makes; None where it says nothing of one."""
        if self.original is None:
            return None
        try:
            made = self.original()
        except (Exception, SystemExit) as error:
            told = f"{_ORIGINAL}() raised {describe_error(error)}"
            raise ConfigError(_KEY, self.source, told) from error
        if not isinstance(made, nn.Module):
            told = f"{_ORIGINAL}() returned {type(made).__name__} and no module of torch"
            raise ConfigError(_KEY, self.source, told)
        return made


def load_functions(name: str) -> FunctionTable:
    module = _import(name)
    table = getattr(module, TABLE, None)
    if not isinstance(table, Mapping) or not table:
        reason = f"has no table {TABLE} of functions by the class of the module"
        raise ConfigError(_KEY, name, reason)
    for kind, function in table.items():
        if not isinstance(kind, str) or not callable(function):
            raise ConfigError(_KEY, name, f"{TABLE}[{kind!r}] is not a function for a class name")
    original = getattr(module, _ORIGINAL, None)
    if original is not None and not callable(original):
        raise ConfigError(_KEY, name, f"{_ORIGINAL} is not a function")
    return FunctionTable(source=name, functions=dict(table), original=original)


def _import(name: str) -> ModuleType:
    path = Path(name)
    try:
        if path.suffix == ".py":
            return _import_file(path)
        return importlib.import_module(name)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # a script may end itself
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
