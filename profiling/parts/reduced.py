"""Builds a network with only some of its parts and loads their files."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Replacements = Mapping[str, nn.Module | Tensor]


class PartMissing(RuntimeError):
    """A folder lacks weights of a part."""


def load_reduced(
    kind: type[Any],
    folder: Any,
    replacements: Replacements,
    *,
    config: Any,
    dtype: torch.dtype | str,
    device: torch.device,
) -> Any:
    """The network with replacements; everything else is loaded from a folder."""
    placed = {"device_map": {"": str(device)}} if device.type != "cpu" else {}
    network, found = reduced_class(kind, replacements).from_pretrained(
        folder,
        config=copy.deepcopy(config),
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        **placed,
    )
    # One device needs no dispatch, and `generate` adds hooks to a network with this map.
    vars(network).pop("hf_device_map", None)
    missing = [*sorted(found["missing_keys"]), *list_unmade(network)]
    if missing:
        raise PartMissing(f"{folder}: there are no weights for {', '.join(missing[:5])}")
    return network.eval().requires_grad_(False)


def list_unmade(network: nn.Module) -> list[str]:
    """Names of parameters and buffers that are on the meta device."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return [name for name, tensor in named if tensor.is_meta]


def reduced_class(kind: type[Any], replacements: Replacements) -> type[Any]:
    """A subclass whose networks are built with replacements."""
    return changed_class(kind, lambda network: replace_parts(network, replacements))


def changed_class(kind: type[Any], change: Callable[[Any], None]) -> type[Any]:
    """A subclass whose networks are changed right after they are built, before weights are read."""

    def __init__(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__(self, config, *args, **kwargs)
        change(self)
        # The library looks up tied weights even if they are absent.
        present = {name for name, _ in self.named_parameters(remove_duplicate=False)}
        ties = self.all_tied_weights_keys.items()
        self.all_tied_weights_keys = {a: b for a, b in ties if {a, b} <= present}

    # The library renames weights of older checkpoints by a class's name and module.
    return type(kind.__name__, (kind,), {"__init__": __init__, "__module__": kind.__module__})


def replace_parts(network: nn.Module, replacements: Replacements) -> None:
    for path, replacement in replacements.items():
        parent, _, name = path.rpartition(".")
        holder = network.get_submodule(parent)
        if isinstance(replacement, nn.Module):
            replacement.train(holder.training)
        # A tensor replaces a parameter without becoming one: no checkpoint has weights for it.
        delattr(holder, name)
        setattr(holder, name, replacement)
