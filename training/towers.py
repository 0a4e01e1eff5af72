"""Lets a family start from what another one has learned to see."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from training.families.positions import LOUDER

_CLIP = "vision_tower."
_RENAMED = {"self_attn.out_proj": "self_attn.projection"}


def copy_matching(network: PreTrainedModel, folder: Path) -> str:
    """Copy every tensor of a checkpoint that has a place of the same name and shape."""
    source = _rename_clip(load_file(folder / "model.safetensors"))
    copied = 0
    with torch.no_grad():
        for name, target in network.state_dict().items():
            if name in source and source[name].shape == target.shape:
                target.copy_(source[name])
                copied += 1
    return f"{copied} tensors copied from {folder}"


def _rename_clip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A CLIP tower's tensors under a BLIP-2 tower's names; it fuses query, key and value."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        renamed[name] = tensor.float()
        if _CLIP in name:
            renamed |= _as_blip2(name.split(_CLIP, 1)[1], tensor.float(), tensors, name)
    return renamed


def _as_blip2(
    short: str, tensor: Tensor, tensors: dict[str, Tensor], name: str
) -> dict[str, Tensor]:
    target = "vision_model." + short
    for old, new in _RENAMED.items():
        target = target.replace(old, new)
    if ".q_proj." in name:
        parts = [tensors[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
        return {target.replace("q_proj", "qkv"): torch.cat(parts).float()}
    if short == "embeddings.class_embedding":
        return {target: tensor.view(1, 1, -1)}
    if short == "embeddings.position_embedding.weight":
        return {"vision_model.embeddings.position_embedding": LOUDER * tensor.unsqueeze(0)}
    return {target: tensor}
