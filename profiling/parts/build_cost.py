"""What it costs to build an artifact: time, added resident memory, size on disk."""

from __future__ import annotations

import json
import time
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Self

from profiling.machine.resident import ResidentSampler
from profiling.parts.artifacts import write_json

_FILE = "making.json"
_SAMPLE_S = 0.005


class BuildCost(ResidentSampler):
    """Measures the building of an artifact.

    Resident memory is sampled, since the load of the model uses the kernel's high-water mark.
    """

    def __init__(self) -> None:
        super().__init__(interval_s=_SAMPLE_S)

    def __enter__(self) -> Self:
        super().__enter__()
        self._begun = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.make_s = time.perf_counter() - self._begun
        super().__exit__(kind, error, trace)
        self.make_peak_bytes = self.peak_bytes - self.before_bytes

    def write(self, folder: Path) -> None:
        """Store the cost beside the artifact, for runs that reuse it."""
        cost = {"make_s": self.make_s, "make_peak_bytes": self.make_peak_bytes}
        write_json(folder / _FILE, cost)


def read_build_cost(folder: Path) -> dict[str, float]:
    content: dict[str, float] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    return content


def note_build_cost(
    notes: MutableMapping[str, float], *, make_s: float, make_peak_bytes: float, artifact_bytes: int
) -> None:
    """Add to the costs of other optimizations in a stack: times add up, peaks do not."""
    notes["make_s"] = notes.get("make_s", 0) + make_s
    notes["make_peak_bytes"] = max(notes.get("make_peak_bytes", 0), make_peak_bytes)
    notes["artifact_bytes"] = notes.get("artifact_bytes", 0) + artifact_bytes
