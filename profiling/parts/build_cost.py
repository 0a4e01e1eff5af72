"""What it costs to make an artifact: time, memory above what was resident before, size on disk."""

from __future__ import annotations

import json
import time
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Self

from profiling.machine.resident import ResidentSampler
from profiling.parts.artifacts import write_json

MAKING = "making.json"
_SAMPLE_S = 0.005


class Making(ResidentSampler):
    """Watches the making of an artifact.

    Resident memory is sampled, since the kernel's own mark belongs to whoever watches the load.
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
        """Kept beside the artifact, so that a run that only reuses it can say what it cost."""
        cost = {"make_s": self.make_s, "make_peak_bytes": self.make_peak_bytes}
        write_json(folder / MAKING, cost)


def read_making(folder: Path) -> dict[str, float]:
    content: dict[str, float] = json.loads((folder / MAKING).read_text(encoding="utf-8"))
    return content


def note_making(
    notes: MutableMapping[str, float], *, make_s: float, make_peak_bytes: float, artifact_bytes: int
) -> None:
    """Add to what other optimizations of a stack have cost: times add up, peaks do not."""
    notes["make_s"] = notes.get("make_s", 0) + make_s
    notes["make_peak_bytes"] = max(notes.get("make_peak_bytes", 0), make_peak_bytes)
    notes["artifact_bytes"] = notes.get("artifact_bytes", 0) + artifact_bytes
