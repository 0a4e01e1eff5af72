"""What runs one exported graph: a runtime opens a graph as a program, which takes arrays.

A runtime is a module of this folder with the name of its yaml's `runtime`, and ends in
`RUNTIME = <class>`. This module imports neither a framework nor a runtime.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy

from profiling.runtimes.offered import REQUIREMENTS

Arrays = Mapping[str, "numpy.ndarray[Any, Any]"]


class RuntimeAbsent(RuntimeError):
    """A runtime cannot be used here: one line that says why."""


class Program(ABC):
    """An opened graph."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    # The dtype of each input, by numpy's name.
    dtypes: Mapping[str, str]
    # The number of dimensions of each input.
    ranks: Mapping[str, int]

    @abstractmethod
    def run(self, feeds: Arrays) -> list[Any]:
        """The outputs in order, as arrays that stay valid; every input has to be given."""


class Runtime(ABC):
    """Opens graphs with one set of options."""

    def __init__(self, *, device: str, threads: int, settings: Mapping[str, Any]) -> None:
        self.device, self.threads, self.settings = device, threads, settings

    @classmethod
    @abstractmethod
    def check(cls, device: str, settings: Mapping[str, Any]) -> None:
        """Raise RuntimeAbsent where these settings cannot be had on this machine."""

    @abstractmethod
    def open(self, path: Path) -> Program: ...

    @abstractmethod
    def computes_in(self, stored: str) -> str:
        """The dtype that graphs with weights stored in that precision are computed in."""

    @classmethod
    def of(cls, *, device: str, threads: int, settings: Mapping[str, Any]) -> Self:
        cls.check(device, settings)
        return cls(device=device, threads=threads, settings=settings)


def find_runtime(name: str) -> type[Runtime]:
    """The runtime in the module of that name; RuntimeAbsent where its package is missing."""
    if find_spec(name) is None:
        raise RuntimeAbsent(f"{name} is not installed: pip install -r {REQUIREMENTS[name]}")
    runtime: type[Runtime] = import_module(f"profiling.runtimes.{name}").RUNTIME
    return runtime
