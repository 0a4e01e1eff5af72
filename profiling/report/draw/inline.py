"""Show the figures of the pages inside a notebook, where they belong to no folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@dataclass(frozen=True)
class Inline:
    """A figure that a notebook shows as the value of a cell."""

    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png


def show(draw: Callable[..., None], *contents: Any, **labels: Any) -> Inline:
    """What one of the functions of `profiling.report.draw.figures` draws, kept in memory."""
    with TemporaryDirectory() as folder:
        stem = Path(folder) / "figure"
        draw(stem, *contents, **labels)
        return Inline(Path(f"{stem}.png").read_bytes())
