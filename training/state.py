"""The file that a training resumes from."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from profiling.errors import ConfigError


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write to a temporary name and rename, so that a kill leaves the older state."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state), path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def read_state(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError("--state", path.parent, f"it has no {path.name}")
    try:
        state = torch.load(path, weights_only=True)
    # What torch raises for a foreign, empty or truncated file.
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError):
        reason = "cannot be read; delete the file to start again"
        raise ConfigError("--state", path, reason) from None
    if not (isinstance(state, dict) and {"origin", "step", "seconds"} <= state.keys()):
        raise ConfigError("--state", path, "is not a training state")
    return state
