"""What a process is asked for that runs single passes of one point, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from profiling.points.point import Point
from profiling.samples.samples import Sample


@dataclass(frozen=True, kw_only=True)
class Weigh:
    """How many bytes of weights a point will load; answered with them, or None."""

    point: Point


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """Load a point; answered with `Prepared`."""

    point: Point
    samples: list[Sample]


@dataclass(frozen=True, kw_only=True)
class Begin:
    """Continue with the batch at this position of the shuffled order; answered with None."""

    position: int


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Run the next pass, timed; answered with `Passed`."""


Request = Weigh | Prepare | Begin | Pass


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What was loaded, and where it works."""

    pids: tuple[int, ...]
    gpu_uuid: str | None
    on_cpu: bool
    num_batches: int
    load_s: float


@dataclass(frozen=True, kw_only=True)
class Passed:
    """A pass: its batch, its seconds by phase with `total` among them.

    `idle_cpu_s` is the CPU time of the process since its last pass, in `idle_s` of waiting.
    """

    batch: int
    times_s: Mapping[str, float]
    idle_s: float
    idle_cpu_s: float


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A request that ended with an exception; the process is of no further use."""

    status: str
    error: str
    traceback: str | None
