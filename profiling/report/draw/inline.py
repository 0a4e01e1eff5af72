"""Show the figures of the pages inside a notebook, without files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@dataclass(frozen=True)
class InlineFigure:
    """A figure as the value of a notebook's cell."""

    png: bytes = field(repr=False)

    def _repr_png_(self) -> bytes:
        return self.png


def show(draw: Callable[..., None], *contents: Any, **labels: Any) -> InlineFigure:
    """Call a function of `profiling.report.draw.figures`, and keep its figure in memory."""
    with TemporaryDirectory() as folder:
        stem = Path(folder) / "figure"
        draw(stem, *contents, **labels)
        return InlineFigure(Path(f"{stem}.png").read_bytes())
