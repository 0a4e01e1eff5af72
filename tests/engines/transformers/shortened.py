"""The embedded checkpoints with few layers, whose graphs are exported in a second or two."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from profiling.models.weights import CHECKPOINTS

_TEXT_LAYERS = {"num_hidden_layers": 1, "num_layers": 1, "num_decoder_layers": 1}


def make_shortened(family: str, folder: Path) -> Path:
    """A checkpoint folder; the weights of the layers that are left out stay in its file."""
    shutil.copytree(CHECKPOINTS / "tiny" / family, folder)
    path = folder / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    text = config["text_config"]
    text |= {name: count for name, count in _TEXT_LAYERS.items() if name in text}
    if "layer_types" in text:
        text["layer_types"] = text["layer_types"][: text["num_hidden_layers"]]
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder
