"""The launches of a comparison on disk, so that an interrupted one goes on where it was."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from profiling.records import SCHEMA_VERSION, BrokenRecord, read_json, write_json
from profiling.runs.paired.estimating import take_launch_logs
from profiling.runs.paired.passes import TOTAL
from profiling.runs.paired.turns import Launch

# What a file that holds something else than a launch makes of reading it.
_NO_LAUNCH = (BrokenRecord, KeyError, TypeError, ValueError, AttributeError, ArithmeticError)


@dataclass(frozen=True, kw_only=True)
class LaunchFiles:
    """One file a launch, with the times of every pass."""

    folder: Path
    address: str

    def write(self, launch: Launch, *, reason: str | None) -> None:
        """`reason` says why launches alternate and not passes, if they do."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "address": self.address,
            "interleaved_reason": reason,
            "launch": launch.as_json(),
        }
        write_json(self._path(launch.number), content)

    def read(self) -> tuple[list[Launch], str | None]:
        """The launches up to the first that is missing or broken, and the reason."""
        found: list[Launch] = []
        reason: str | None = None
        for number in count(1):
            try:
                launch, reason = self._read_one(number)
            except _NO_LAUNCH:
                break
            found.append(launch)
        return found, reason

    def _read_one(self, number: int) -> tuple[Launch, str | None]:
        path = self._path(number)
        content: Any = read_json(path, missing=f"{path}: no such launch")
        launch = Launch.from_json(content["launch"])
        known = (content["schema_version"], content["address"], launch.number)
        if known != (SCHEMA_VERSION, self.address, number):
            raise BrokenRecord(f"{path}: belongs to another comparison")
        # Raises where the times of both sides are not pairs of positive numbers.
        take_launch_logs([launch], TOTAL)
        return launch, content["interleaved_reason"]

    def _path(self, number: int) -> Path:
        return self.folder / f"launch-{number}.json"
