"""Records with all that the parent process writes, for trackers to show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.report.synthetic import write_run


def write_tracked(folder: Path, **settings: Any) -> Path:
    return write_run(folder, **settings)
