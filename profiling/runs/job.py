"""What is handed to the process that measures a point, and what it hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiling.points.point import Point
from profiling.samples.samples import Sample


@dataclass(frozen=True, kw_only=True)
class Job:
    """A point to run, and the facts that its record holds besides the findings."""

    point: Point
    samples: list[Sample]
    folder: Path
    facts: Mapping[str, Any]


class Note(str):
    """A line from the process that measures that stays to be read, unlike the name of a phase."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a point ended."""

    status: str
    error: str | None
    loaded: bool
    summary: Mapping[str, Any]
