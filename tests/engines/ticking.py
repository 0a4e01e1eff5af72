"""A clock of whole seconds, and a trace walked by hand."""

from __future__ import annotations

from itertools import count

from profiling.engines.trace import Trace


class Ticks:
    """A clock on which each mark is one second after the one before."""

    source = "ticks"

    def __init__(self) -> None:
        self._seconds = count()
        self.settled = 0

    def mark(self) -> int:
        return next(self._seconds)

    def settle(self) -> None:
        self.settled += 1

    def between_s(self, earlier: int, later: int) -> float:
        return float(later - earlier)


def walk(trace: Trace, *spans: str) -> None:
    for span in spans:
        with trace.span(span):
            pass


def tell(trace: Trace, *counts: int, row: int = 0) -> None:
    """A mark for each number of tokens that a row has by then."""
    for number in counts:
        trace.tokens(number, row=row)
