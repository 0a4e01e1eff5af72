"""Where this user's files that outlive a run are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """The folder for this project's files, by the XDG convention."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "vlm-profiling"
