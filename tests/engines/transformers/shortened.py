"""The embedded checkpoints with few layers, whose graphs are exported in a second or two."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from profiling.models.weights import CHECKPOINTS

# All but the first layer of a text model, by the names in the embedded checkpoints.
_LEFT_OUT = re.compile(
    r"(language_model\.)?(model\.|decoder\.|encoder\.)*(layers|block)\.[1-9]\d*\."
)
_TEXT_LAYERS = {"num_hidden_layers": 1, "num_layers": 1, "num_decoder_layers": 1}
# All but the first two blocks of the vision part of qwen25vl: one with windows, one without.
_BLOCKS_LEFT_OUT = re.compile(r"(model\.)?visual\.blocks\.([2-9]|\d\d+)\.")


def make_shortened_vision(folder: Path) -> Path:
    """A checkpoint folder of qwen25vl whose vision part has a block of each kind."""

    def shorten(config: dict[str, Any]) -> None:
        config["vision_config"] |= {"depth": 2, "fullatt_block_indexes": [1]}

    return _make("qwen25vl", folder, shorten, _BLOCKS_LEFT_OUT)


def make_shortened(family: str, folder: Path) -> Path:
    """A checkpoint folder whose text model has one layer."""

    def shorten(config: dict[str, Any]) -> None:
        text = config["text_config"]
        text |= {name: count for name, count in _TEXT_LAYERS.items() if name in text}
        if "layer_types" in text:
            text["layer_types"] = text["layer_types"][: text["num_hidden_layers"]]

    return _make(family, folder, shorten, _LEFT_OUT)


def _make(
    family: str,
    folder: Path,
    shorten: Callable[[dict[str, Any]], None],
    left_out: re.Pattern[str],
) -> Path:
    """The embedded checkpoint without the values of what its configuration has no more."""
    shutil.copytree(CHECKPOINTS / "tiny" / family, folder)
    path = folder / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    shorten(config)
    path.write_text(json.dumps(config), encoding="utf-8")
    values = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in values.items() if not left_out.match(name)}
    assert len(kept) < len(values)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
