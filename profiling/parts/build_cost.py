"""What it costs to build an artifact: time, added resident memory, size on disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Self

from profiling.files import LARGEST_SETTINGS, read_json
from profiling.machine.resident import ResidentSampler
from profiling.parts.artifacts import write_json

BUILD_COST = "making.json"
_SAMPLE_S = 0.005


class BuildCost(ResidentSampler):
    """Watches the making of an artifact.

    Resident memory is sampled, since the load of the model uses the kernel's high-water mark.
    """

    def __init__(self) -> None:
        super().__init__(interval_s=_SAMPLE_S)

    def __enter__(self) -> Self:
        super().__enter__()
        self._begun = time.perf_counter()
        return self

    def __exit__(self, *ended: object) -> None:
        self.make_s = time.perf_counter() - self._begun
        super().__exit__(*ended)
        self.make_peak_bytes = self.peak_bytes - self.before_bytes

    def write(self, folder: Path) -> None:
        """Store the cost beside the artifact, for runs that reuse it."""
        cost = {"make_s": self.make_s, "make_peak_bytes": self.make_peak_bytes}
        write_json(folder / BUILD_COST, cost)


def read_build_cost(folder: Path) -> dict[str, float]:
    content: dict[str, float] = read_json(folder / BUILD_COST, at_most=LARGEST_SETTINGS)
    return content
