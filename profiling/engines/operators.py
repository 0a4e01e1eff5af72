"""Where the time of one pass went, operator by operator. Imports no framework."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class OperatorTime:
    """The calls of one operator with one list of shapes, in one module and one phase."""

    phase: str
    operator: str
    shapes: str
    # The path of the module that called it; `*` stands for the number of a layer.
    module: str
    # What the module does: attention, mlp, norm, embedding, head or other.
    layer: str
    calls: int
    # Its own time, without that of the operators that it calls.
    self_s: float

    def describe(self) -> str:
        calls = "1 call" if self.calls == 1 else f"{self.calls} calls"
        where = f" in {self.module}" if self.module else ""
        shapes = f" {self.shapes}" if self.shapes else ""
        return f"{self.operator}{shapes}{where} ({self.layer}), {calls}"


@dataclass(frozen=True, kw_only=True)
class OperatorTrace:
    """One pass under a profiler."""

    operators: list[OperatorTime]
    # The whole trace in Chrome's format, which Perfetto reads.
    chrome: bytes
    source: str
