"""Copies the vision weights of one family into another."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from profiling.errors import ConfigError

_BLIP2, _CLIP = "vision_model.", "vision_tower."
_SPEAKING = ("language_model.", "lm_head.")
_PARTS = ("q_proj", "k_proj", "v_proj")


def copy_matching(network: PreTrainedModel, folder: Path) -> str:
    """Copy all weights but the language model's, where name and shape match.

    Language weights stay random: those trained over a weaker vision encoder memorised signs and
    keep guessing after the encoder has improved.
    """
    source = _add_clip_names(_read(folder))
    copied = 0
    with torch.no_grad():
        for name, target in network.state_dict().items():
            short = _shorten(name)
            known = None if short.startswith(_SPEAKING) else source.get(short)
            if known is not None and known.shape == target.shape:
                target.copy_(known)
                copied += 1
    if not copied:
        raise ConfigError("--start-from", folder, "no tensor in it matches this family")
    return f"{copied} tensors copied from {folder}"


def _read(folder: Path) -> dict[str, Tensor]:
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ConfigError("--start-from", folder, f"it has no {path.name}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ConfigError("--start-from", folder, f"{path.name} cannot be read: {error}") from None


def _shorten(name: str) -> str:
    """The name without the outermost prefix, which differs between files and networks."""
    return name.removeprefix("model.")


def _add_clip_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All tensors, those of a BLIP-2 tower also under a CLIP tower's names."""
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        short = _shorten(name)
        named[short] = tensor
        if short.startswith(_BLIP2):
            named |= _as_clip(short.removeprefix(_BLIP2), tensor)
    return named


def _as_clip(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if ".qkv." in name:  # BLIP-2 fuses query, key and value
        parts = zip(_PARTS, tensor.chunk(len(_PARTS)), strict=True)
        return {_CLIP + name.replace("qkv", part): piece for part, piece in parts}
    if name == "embeddings.class_embedding":
        return {_CLIP + name: tensor.flatten()}
    if name == "embeddings.position_embedding":
        return {f"{_CLIP}{name}.weight": tensor[0]}
    return {_CLIP + name.replace("self_attn.projection", "self_attn.out_proj"): tensor}
