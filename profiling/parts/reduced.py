"""A network of which only some parts are made, loaded from the files that hold those parts."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

Replacements = Mapping[str, nn.Module | Tensor]


class PartMissing(RuntimeError):
    """A folder that should hold a part lacks values of it."""


def load_reduced(
    kind: type[Any],
    folder: Any,
    replacements: Replacements,
    *,
    config: Any,
    dtype: torch.dtype | str,
    device: torch.device,
) -> Any:
    """The network with replacements in it, everything else from the files in a folder."""
    placed = {"device_map": {"": str(device)}} if device.type == "cuda" else {}
    network, found = reduced_class(kind, replacements).from_pretrained(
        folder,
        config=copy.deepcopy(config),
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        **placed,
    )
    # One device needs no dispatch; a network that carries the map is given hooks in `generate`.
    vars(network).pop("hf_device_map", None)
    missing = [*sorted(found["missing_keys"]), *list_unmade(network)]
    if missing:
        raise PartMissing(f"{folder}: there are no values for {', '.join(missing[:5])}")
    return network.eval().requires_grad_(False)


def list_unmade(network: nn.Module) -> list[str]:
    """Parameters and buffers that have a shape and no values."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return [name for name, tensor in named if tensor.is_meta]


def reduced_class(kind: type[Any], replacements: Replacements) -> type[Any]:
    """A network's class whose networks are made with replacements in them."""

    def __init__(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__(self, config, *args, **kwargs)
        replace_parts(self, replacements)
        # The library looks up what is tied whether or not it is there.
        present = {name for name, _ in self.named_parameters(remove_duplicate=False)}
        ties = self.all_tied_weights_keys.items()
        self.all_tied_weights_keys = {a: b for a, b in ties if {a, b} <= present}

    # The library knows by a class's name and module how older checkpoints name its values.
    return type(kind.__name__, (kind,), {"__init__": __init__, "__module__": kind.__module__})


def replace_parts(network: nn.Module, replacements: Replacements) -> None:
    for path, replacement in replacements.items():
        parent, _, name = path.rpartition(".")
        holder = network.get_submodule(parent)
        # A tensor takes the place of a parameter without being one: it is no value of a checkpoint.
        delattr(holder, name)
        setattr(holder, name, replacement)
