"""What runs one exported graph: a runtime opens a graph as a program, which takes arrays.

A runtime is a module of this folder with the name of its yaml's `runtime`, and ends in
`RUNTIME = <class>`. This module imports neither a framework nor a runtime.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy

from profiling.records import Reading
from profiling.runtimes.offered import ALONE, REQUIREMENTS

if TYPE_CHECKING:
    from profiling.runtimes.graph_profile import GraphProfile

Arrays = Mapping[str, "numpy.ndarray[Any, Any]"]


class RuntimeAbsent(RuntimeError):
    """A runtime cannot be used here: one line that says why."""


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """The lengths that code is compiled for: multiples of so many tokens."""

    prompts: int
    caches: int


class Program(ABC):
    """An opened graph."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    # The dtype of each input, by numpy's name.
    dtypes: Mapping[str, str]
    # The number of dimensions of each input.
    ranks: Mapping[str, int]
    # None where every length runs as it is.
    buckets: Buckets | None = None

    @abstractmethod
    def run(self, feeds: Arrays) -> list[Any]:
        """The outputs in order, as arrays that stay valid; every input has to be given."""

    def run_held(self, feeds: Mapping[str, Any], *, room: int | None) -> list[Any]:
        """As `run`, with outputs that may stay where the runtime has them.

        `numpy.asarray` reads them, and the program takes them back as inputs. With a `room`, each
        output behind the first (the keys and values of a decoder) has as many places on its third
        axis, the last ones of the graph's output at the end. It is given by programs with buckets.
        """
        return self.run(feeds)

    def profiled(self) -> AbstractContextManager[Sequence[GraphProfile]]:
        """While it is open, runs are under the runtime's own profiler.

        The profiles are filled at the end; there are none where the runtime has no profiler.
        """
        return nullcontext(())


class Runtime(ABC):
    """Opens graphs with one set of options."""

    def __init__(self, *, device: str, threads: int, settings: Mapping[str, Any]) -> None:
        self.device, self.threads, self.settings = device, threads, settings

    # Whether code is compiled for each shape that a program is given.
    compiles = False

    @classmethod  # noqa: B027
    def prepare_process(cls, *, device: str, threads: int) -> None:
        """Settle what holds for the whole process, before anything is computed."""

    @classmethod
    @abstractmethod
    def check(cls, device: str, settings: Mapping[str, Any]) -> None:
        """Raise RuntimeAbsent where these settings cannot be had on this machine."""

    @abstractmethod
    def open(self, path: Path) -> Program: ...

    # What files of the runtime's own format end in, and the packages that make them.
    suffix = ""
    stores_with: Sequence[str] = ()

    def store(self, path: Path, folder: Path, *, precision: str) -> Path:
        """Write a graph with its weights in a precision of `OWN_FORMATS`; its path, to be opened.

        The file has the stem of the graph.
        """
        raise NotImplementedError

    @abstractmethod
    def computes_in(self, stored: str) -> str:
        """The dtype that graphs with weights stored in that precision are computed in."""

    def begin_measuring(self) -> None:  # noqa: B027
        """Everything that a workload needs has been compiled; what comes is compiled again."""

    def readings(self) -> Iterator[Reading]:
        """What was compiled."""
        return iter(())

    @classmethod
    def of(cls, *, device: str, threads: int, settings: Mapping[str, Any]) -> Self:
        cls.check(device, settings)
        return cls(device=device, threads=threads, settings=settings)


def find_runtime(name: str) -> type[Runtime]:
    """The runtime in the module of that name; RuntimeAbsent where its package is missing."""
    if find_spec(name) is None:
        raise RuntimeAbsent(f"{name} is not installed: pip install -r {REQUIREMENTS[name]}")
    others = sorted(ALONE.intersection(sys.modules) - {name}) if name in ALONE else []
    if others:
        raise RuntimeAbsent(f"{name} cannot run in a process that has imported {others[0]}")
    runtime: type[Runtime] = import_module(f"profiling.runtimes.{name}").RUNTIME
    return runtime


def require_cpu(name: str, device: str) -> None:
    if device != "cpu":
        raise RuntimeAbsent(f"{name} runs on the CPU here, and the device is {device}")


def writable(array: Any) -> Any:
    """What a program gave, as an array of the host that may be written into."""
    found = numpy.asarray(array)
    return found if found.flags.writeable else numpy.array(found)
