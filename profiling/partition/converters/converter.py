"""What writes a part in a framework's own format: a module of this folder that ends in `CONVERTER`.

This module imports no framework.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from profiling.errors import ConfigError
from profiling.runtimes.offered import REQUIREMENTS

Sizes = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A part: its graph, what the manifest says of it, and the module that was exported."""

    name: str
    graph: Path
    told: Mapping[str, Any]
    module: Any
    # Inputs of noise that the module can be traced with, and the names of the axes that vary.
    example: Mapping[str, Any]
    axes: Mapping[str, Mapping[int, str]]


class Converter(ABC):
    """Writes parts in one format."""

    # Whether a program has one shape, so that one is written for each of several sizes.
    fixed = False
    # What has to be installed to run what is written.
    needs: Sequence[str]

    @abstractmethod
    def save(self, part: Source, folder: Path, sizes: Sequence[Sizes]) -> dict[str, Any]:
        """Write a part; what the script that opens it has to know: `programs`, and more."""


def list_engines() -> list[str]:
    """The engines that parts can be converted for."""
    here = Path(__file__).parent
    own = Path(__file__).stem
    return sorted(module.name for module in iter_modules([str(here)]) if module.name != own)


def find_converter(engine: str) -> Converter:
    """The converter in the module of that name."""
    require_package(engine)
    converter: Converter = import_module(f"{__package__}.{engine}").CONVERTER
    return converter


def require_package(engine: str) -> None:
    if find_spec(engine) is None:
        reason = f"{engine} is not installed: pip install -r {REQUIREMENTS[engine]}"
        raise ConfigError("--engine", engine, reason)
