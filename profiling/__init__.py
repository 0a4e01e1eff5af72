"""A profiling research harness for vision-language models."""

from __future__ import annotations

import os
from pathlib import Path

# ONNX Runtime reads it when it is imported, and otherwise keeps a database in the user's cache.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

PROJECT = Path(__file__).resolve().parent.parent
