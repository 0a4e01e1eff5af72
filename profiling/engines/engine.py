"""What an engine is: it takes samples to answers and marks where its phases begin and end.

An engine is a folder below this one with a module `engine.py` that ends in `ENGINE = <class>`, and
a yaml in `conf/engine/` that names the folder as its `room`. This module imports no framework.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, Self

import numpy

from profiling.costs.phase_costs import PhaseCosts
from profiling.engines.operators import OperatorTrace
from profiling.engines.trace import Clock, Trace
from profiling.errors import Unsupported
from profiling.points.point import Point
from profiling.records import DERIVED, Reading
from profiling.samples.samples import Sample


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one sample of a batch was, as the engine saw it; None where it cannot be known."""

    prompt: str
    answer: str | None
    num_question_tokens: int | None
    num_prompt_tokens: int | None
    num_visual_tokens: int | None
    num_new_tokens: int | None
    # Of each picture or frame; None also where a sample's pictures are not of one size.
    image_width: int | None
    image_height: int | None


class Accelerator(Protocol):
    """A GPU's memory as its allocator counts it, for the device that the engine runs on."""

    source: str
    reserved_source: str

    def reset(self) -> None: ...
    def allocated_bytes(self) -> int: ...
    def peak_bytes(self) -> int: ...
    def peak_reserved_bytes(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Where an engine works, and what is charged with its work."""

    # The processes whose memory and time are the engine's; none where it runs on another machine.
    pids: tuple[int, ...]
    device: str  # "cpu", "cuda:0", …; "elsewhere" where it is not on this machine
    gpu_uuid: str | None
    dtype: str | None
    # What the arithmetic really uses, which quantized layers decide for themselves.
    computes_in: str | None
    model_bytes: int | None
    accelerator: Accelerator | None
    # Why joules or memory of this machine do not belong to the engine alone, if they do not.
    shared: str | None = None
    # Why no instrument of this project reads the joules of such a device, if none does.
    unmetered: str | None = None

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"

    @property
    def on_gpu(self) -> bool:
        return self.gpu_uuid is not None or self.device.startswith(("cuda", "mps"))


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What loading an engine took."""

    load_s: float
    peak_bytes: int
    peak_source: str


class Passes(Protocol):
    """What an engine is given to run passes of its own with: the batches of a workload."""

    batches: list[list[Sample]]
    img_size: int | None
    max_new_tokens: int

    def encode(self, index: int) -> Any: ...
    def run(self, index: int, *, max_new_tokens: int | None = None) -> None: ...


class Engine(ABC):
    """Runs the points that name it. `Batch` and `Inputs` are the engine's own and opaque here."""

    # Phases whose borders cannot be marked, each with the reason.
    blind: Mapping[str, str]
    # Whether the answers mean anything: values that were stored, not drawn at random.
    has_values: bool
    # Why nothing is loaded, where another process has the model.
    not_loaded: str | None = None
    # Whether it is the plain model in single precision, which the logits of all are compared with.
    is_plain: bool = False
    # Why its logits are meant to be others than those of the plain model, if they are.
    approximates: str | None = None
    # The status of the token counts of samples, and how they are counted.
    counted: tuple[str, str] = (DERIVED, "counted in the tensors of every sample, mean per sample")

    @classmethod  # noqa: B027
    def prepare_process(cls, point: Point) -> None:
        """Import the libraries that loading takes, so that importing is no part of its time."""

    @classmethod
    @abstractmethod
    def check(cls, point: Point) -> None:
        """Raise Unsupported, before anything is loaded, where this point cannot be had."""

    @classmethod
    def check_samples(cls, point: Point, samples: Sequence[Sample]) -> None:
        """Raise Unsupported, before anything is loaded, where samples show what it cannot take."""
        if any(len(sample.pictures) != 1 for sample in samples):
            raise Unsupported(f"engine={point.engine} takes one picture a sample, and no clip")

    @classmethod
    def predict_bytes(cls, point: Point) -> int | None:
        """Bytes of the weights that loading will take in this process; None: unknown."""
        return None

    @classmethod
    def count(cls, point: Point) -> Any:
        """What a batch of a point costs, before anything is loaded; or Unsupported."""
        raise Unsupported("this engine cannot tell what a point costs before it runs")

    @classmethod
    @abstractmethod
    def load(cls, point: Point) -> Self: ...

    @classmethod
    @abstractmethod
    def is_out_of_memory(cls, error: Exception) -> bool: ...

    @classmethod
    def load_plain(cls, point: Point, *, most_bytes: float | None) -> Self:
        """The plain model of a point in single precision; Unsupported where it is too large."""
        raise Unsupported("this engine is not the one that others are compared with")

    @abstractmethod
    def prepare(self, samples: Sequence[Sample], prompt_len: int | None) -> Any:
        """A batch with its pictures read and its questions fitted."""

    @abstractmethod
    def encode(self, batch: Any, img_size: int | None) -> Any:
        """What is generated from, still in this process and in main memory.

        Without an `img_size` pictures are as large as the model's own processor makes them.
        """

    def place(self, inputs: Any) -> Any:
        """The same on the device."""
        return inputs

    @abstractmethod
    def generate(self, inputs: Any, *, length: int, exact: bool, trace: Trace | None) -> Any:
        """New tokens: `length` of them, or up to so many where the model stops by itself."""

    @abstractmethod
    def describe(self, batch: Any, inputs: Any, generated: Any | None) -> list[Row]:
        """What each sample of a batch was and, where something was generated, what came out."""

    @abstractmethod
    def tokens(self, generated: Any) -> list[list[int]]:
        """The new tokens of each row up to its own end, the end token counted."""

    @abstractmethod
    def reference_nlls(
        self, inputs: Any, references: Sequence[str], length: int
    ) -> list[float | None]:
        """Mean negative log-likelihood a token of each reference, in nats; or Unsupported."""

    def forced_logits(
        self, inputs: Any, tokens: Sequence[Sequence[int]], length: int
    ) -> list[numpy.ndarray]:
        """The logits [T, V] that each row has at its tokens, which are chosen whatever they say.

        `length` is that of the answers. Unsupported where there are no logits.
        """
        raise Unsupported("this engine gives no logits")

    def precisions(self) -> frozenset[str]:
        """What values are stored, kept or computed in: float32, float16, bfloat16, int8, …"""
        return frozenset()

    def disturbed(self, size: float) -> AbstractContextManager[None]:
        """Within it, the outputs of all modules are off by noise of so large a share of them."""
        raise Unsupported("this engine has no modules to disturb")

    def longest_sum(self) -> int:
        """How many products the longest sum of a matrix product has."""
        raise Unsupported("this engine does not show its weights")

    def replay(self, part: str, run: Callable[[], None]) -> Callable[[], None]:
        """What repeats the calls that `part` gets while `run` runs, alone; or Unsupported."""
        raise Unsupported(f"this engine cannot run its {part} part alone")

    def trace_operators(self, run: Callable[[], None]) -> OperatorTrace:
        """What each operator took while `run` ran under a profiler; or Unsupported."""
        raise Unsupported("this engine has no profiler of its operators")

    @abstractmethod
    def clock(self) -> Clock: ...

    @abstractmethod
    def footprint(self) -> Footprint: ...

    def costs(self, inputs: Any, *, length: int, cross_check: bool) -> PhaseCosts:
        """FLOPs and bytes of generating `length` tokens from a batch; or Unsupported."""
        raise Unsupported("this engine does not show what it computes")

    def settle(self, workload: Passes) -> None:  # noqa: B027
        """Make what depends on a workload's shapes (compiled code, caches); again if it grew."""

    def begin_pass(self) -> None:  # noqa: B027
        """Forget what an earlier pass over the samples left and users would not profit from."""

    def answered(self) -> Iterator[Reading]:
        """What can be told only right after every sample was answered once."""
        return iter(())

    def memory_readings(self, workload: Passes) -> Iterator[Reading]:
        """What the engine knows of its own memory: weights by part, keys and values."""
        return iter(())

    def readings(self, workload: Passes, loading: Loading) -> Iterator[Reading]:
        """What making it cost, cache hits, recompilations, and what it really computed in."""
        return iter(())

    def synchronize(self) -> None:  # noqa: B027
        """Wait until everything that was asked for has happened."""

    def close(self) -> None:  # noqa: B027
        """Let go of what outlives this process."""


def find_engine(point: Point) -> type[Engine]:
    """The engine in the folder that the point's yaml names."""
    engine: type[Engine] = import_module(f"profiling.engines.{point.room}.engine").ENGINE
    return engine
