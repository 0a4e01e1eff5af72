"""What modules compute by besides their weights: plain attributes, configurations, parameters."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import nn

# Of every module, and of no effect on what it computes in evaluation.
_ALWAYS_THERE = frozenset({"training", "gradient_checkpointing", "call_super_init"})


def settings_of(module: nn.Module) -> dict[str, Any]:
    """The module's own attributes as far as they are plain values."""
    found = {}
    for name, value in vars(module).items():
        if not name.startswith("_") and name not in _ALWAYS_THERE:
            plain = as_plain(value)
            if plain is not _NOT_PLAIN:
                found[name] = plain
    return found


class _NotPlain:
    pass


_NOT_PLAIN = _NotPlain()


def as_plain(value: Any) -> Any:
    """The value in what JSON has (tuples as lists), or a mark where it has not."""
    try:
        return _as_plain(value)
    except Exception:
        # A class of the user's own may raise anything, and a list may contain itself.
        return _NOT_PLAIN


def _as_plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, list | tuple):
        parts = [_as_plain(part) for part in value]
        return _NOT_PLAIN if any(part is _NOT_PLAIN for part in parts) else parts
    if isinstance(value, Mapping):
        named = {str(name): _as_plain(part) for name, part in value.items()}
        return _NOT_PLAIN if any(p is _NOT_PLAIN for p in named.values()) else named
    return _NOT_PLAIN


def config_of(module: nn.Module) -> dict[str, Any] | None:
    """The configuration that a module of the library has, as plain values."""
    config = getattr(module, "config", None)
    to_dict: Any = getattr(config, "to_dict", None)
    if to_dict is None:
        return None
    named = {name: as_plain(value) for name, value in to_dict().items()}
    return {name: value for name, value in named.items() if value is not _NOT_PLAIN}


def positional_names(module: nn.Module) -> list[str]:
    """The parameters of `forward` that may be passed by position."""
    if "forward" in vars(module):
        return _positional(module.forward)
    kind: Any = type(module)
    # The first one is the module itself.
    return _positional_of_class(kind)[1:]


@cache
def _positional_of_class(kind: Any) -> list[str]:
    return _positional(kind.forward)


def _positional(forward: Any) -> list[str]:
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.name for parameter in parameters if parameter.kind in kinds]


def layers_of(modules: Mapping[str, nn.Module]) -> dict[str, int | None]:
    """The one layer of a cache that each module has to do with; None for all or none."""
    known: dict[int, frozenset[int]] = {}
    found = {path: _layers_in(module, known) for path, module in modules.items()}
    return {path: next(iter(all_)) if len(all_) == 1 else None for path, all_ in found.items()}


def _layers_in(module: nn.Module, known: dict[int, frozenset[int]]) -> frozenset[int]:
    if id(module) not in known:
        own = getattr(module, "layer_idx", None)
        parts = [_layers_in(part, known) for part in module.children()]
        some = frozenset({own}) if isinstance(own, int) else frozenset[int]()
        known[id(module)] = some.union(*parts)
    return known[id(module)]


def describe_modules(network: nn.Module) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Class, settings and configuration of every module; configurations are listed once."""
    configs: list[dict[str, Any]] = []
    seen: dict[int, int | None] = {}
    modules = {}
    for path, module in network.named_modules(remove_duplicate=False):
        config = getattr(module, "config", None)
        if id(config) not in seen:
            plain = config_of(module)
            seen[id(config)] = None if plain is None else _place(plain, configs)
        modules[path] = {
            "class": type(module).__name__,
            "settings": settings_of(module),
            "parameters": positional_names(module),
            "config": seen[id(config)],
        }
    return modules, configs


def _place(config: dict[str, Any], configs: list[dict[str, Any]]) -> int:
    if config not in configs:
        configs.append(config)
    return configs.index(config)
