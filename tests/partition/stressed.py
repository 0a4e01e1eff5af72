"""Models whose vision part has values that let no error in attention hide."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from profiling.models.model import Model
from tests.tiny_models import load

_LAYERS = 2


def stressed(family: str, *, dtype: str = "fp32", whole: bool = False) -> Model:
    """A copy of an embedded model: normal values by fan-in, queries and keys doubled, biases 0.1.

    Untrained values hide wrong attention almost completely. Only the first layers are kept, unless
    the `whole` vision part is asked for.
    """
    plain = load(family, f"optimization={dtype}")
    model = replace(plain, network=copy.deepcopy(plain.network), notes={})
    # A network that picks one of all the states by its number needs all the layers.
    if not whole and not hasattr(model.family.config, "vision_feature_layer"):
        _shorten(model.network.get_submodule(model.family.parts.vision), _LAYERS)
    generator = torch.Generator().manual_seed(0)
    for path in model.family.vision_paths:
        for name, value in model.network.get_submodule(path).named_parameters():
            _fill(name, value, generator)
    for path in model.family.vision_values:
        getattr(model.network, path).data.normal_(0, 1, generator=generator)
    return model


def _shorten(vision: nn.Module, layers: int) -> None:
    for module in vision.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList):
                setattr(module, name, child[:layers])


def _fill(name: str, value: nn.Parameter, generator: torch.Generator) -> None:
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
