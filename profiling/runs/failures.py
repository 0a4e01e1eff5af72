"""Which status an exception means, and how it is described in one line."""

from __future__ import annotations

from collections.abc import Callable

from profiling.engines.engine import find_engine
from profiling.errors import ConfigError, Unsupported
from profiling.points.point import Point
from profiling.records import FAILED, OUT_OF_MEMORY, UNSUPPORTED

_LONGEST = 500


def classify(problem: Exception, is_out_of_memory: Callable[[Exception], bool]) -> str:
    """The status of a point that ended with an exception.

    `is_out_of_memory` is the engine's own judgement of what its libraries raise.
    """
    if isinstance(problem, Unsupported):
        return UNSUPPORTED
    if isinstance(problem, MemoryError) or is_out_of_memory(problem):
        return OUT_OF_MEMORY
    return FAILED


def judge_memory(point: Point) -> Callable[[Exception], bool]:
    """What tells whether an exception means that memory ran out; the engine knows its libraries."""
    try:
        return find_engine(point).is_out_of_memory
    except ImportError:
        return lambda _: False


def describe_problem(problem: Exception) -> str:
    """One line; errors that address the user need no name of their class before them."""
    text = " ".join(str(problem).split())
    if isinstance(problem, (ConfigError, Unsupported)):
        return text
    return f"{type(problem).__name__}: {text}"[:_LONGEST]
