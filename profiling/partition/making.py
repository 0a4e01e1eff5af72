"""What it costs to make an artifact: time, memory above what was resident before, size on disk."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Self

from profiling.partition.artifacts import write_json
from profiling.resident import SELF, read_resident_bytes

MAKING = "making.json"
_SAMPLE_S = 0.005


class Making:
    """Watches the making of an artifact.

    Resident memory is sampled, since the kernel's own mark belongs to whoever watches the load.
    """

    def __enter__(self) -> Self:
        self._before_bytes = self._peak_bytes = read_resident_bytes(SELF)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="making sampler", daemon=True)
        self._thread.start()
        self._begun = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.make_s = time.perf_counter() - self._begun
        self._stop.set()
        self._thread.join()
        self._keep()
        self.make_peak_bytes = self._peak_bytes - self._before_bytes

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            self._keep()

    def _keep(self) -> None:
        self._peak_bytes = max(self._peak_bytes, read_resident_bytes(SELF))

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
