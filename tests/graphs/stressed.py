"""Models and checkpoints with values that let no error in attention hide."""

from __future__ import annotations

import copy
import json
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from profiling.models.model import Model
from profiling.models.weights import CHECKPOINTS
from tests.tiny_models import load

_LAYERS = 2
_FILE = "model.safetensors"


def make_stressed(family: str, folder: Path, *, shards: int = 1) -> Path:
    """A checkpoint folder in the public form whose every value is drawn by its name alone."""
    shutil.copytree(CHECKPOINTS / "tiny" / family, folder)
    values = load_file(folder / _FILE)
    for name, value in values.items():
        _fill(name, value, torch.Generator().manual_seed(zlib.crc32(name.encode())))
    (folder / _FILE).unlink()
    if shards == 1:
        save_file(values, folder / _FILE, metadata={"format": "pt"})
    else:
        _write_shards(folder, values, shards)
    return folder


def _write_shards(folder: Path, values: dict[str, Tensor], shards: int) -> None:
    where = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        held = dict(list(values.items())[number::shards])
        save_file(held, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(held, file)
    total = sum(value.nbytes for value in values.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / f"{_FILE}.index.json").write_text(json.dumps(index), encoding="utf-8")


def stressed(family: str, *, dtype: str = "fp32", whole: bool = False) -> Model:
    """A copy of an embedded model: normal values by fan-in, queries and keys doubled, biases 0.1.

    Untrained values hide wrong attention almost completely. Only the first layers are kept, unless
    the `whole` vision part is asked for.
    """
    plain = load(family, f"optimization={dtype}").model
    model = replace(plain, network=copy.deepcopy(plain.network))
    # A network that picks one of all the states by its number needs all the layers.
    if not whole and not hasattr(model.family.config, "vision_feature_layer"):
        _shorten(model.network.get_submodule(model.family.layout.parts.vision), _LAYERS)
    generator = torch.Generator().manual_seed(0)
    for path in model.family.layout.vision_paths:
        for name, value in model.network.get_submodule(path).named_parameters():
            _fill(name, value, generator)
    for path in model.family.layout.vision_parameters:
        getattr(model.network, path).data.normal_(0, 1, generator=generator)
    return model


def _shorten(vision: nn.Module, layers: int) -> None:
    for module in vision.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList):
                setattr(module, name, child[:layers])


def _fill(name: str, value: Tensor, generator: torch.Generator) -> None:
    if value.ndim >= 2:
        drawn = torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5
        if "position" in name:
            drawn = drawn * value[0].numel() ** 0.5
        attends = any(part in name for part in ("qkv", "q_proj", "k_proj", ".query.", ".key."))
        drawn = drawn * (2 if attends else 1)
    elif "bias" in name:
        drawn = 0.1 * torch.randn(value.shape, generator=generator)
    else:
        drawn = 1 + 0.2 * torch.randn(value.shape, generator=generator)
    value.data.copy_(drawn)
