"""Records with all that the parent process writes, for trackers to show."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "report"))

from synthetic import write_run


def write_tracked(folder: Path, **settings: Any) -> Path:
    return write_run(folder, **settings)
