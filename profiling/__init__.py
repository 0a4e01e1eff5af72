"""A profiling research harness for vision-language models."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
# A wheel carries what a checkout has beside the package (conf, checkpoints, datasets) inside of it.
_CARRIED = PACKAGE / "project"
PROJECT = _CARRIED if _CARRIED.is_dir() else PACKAGE.parent
