"""A network's weights as flat names and tensors: in a file, and their digests.

All parameters and buffers are there, also buffers that checkpoints leave out. What is one tensor
under several names (tied weights) is stored once; the file's metadata names the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from profiling.captures.tensor_files import broken, can_be_stored, digest_of, read_tensors
from profiling.errors import ConfigError
from profiling.models.nested_weights import Nested, nest
from profiling.models.storage import tensors_of
from profiling.parts.artifacts import replacing

_TIED = "tied"


def flat_weights(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by every name that it has."""
    named = chain(
        module.named_parameters(remove_duplicate=False),
        module.named_buffers(remove_duplicate=False),
    )
    return {name: tensor.detach() for name, tensor in named}


def digests_of(module: nn.Module) -> dict[str, str]:
    """A digest of each weight, to tell whether another network has the same values."""
    by_tensor: dict[int, str] = {}
    found = {}
    for name, tensor in flat_weights(module).items():
        key = id(tensor) if not tensor.numel() else hash((tensor.data_ptr(), tensor.stride()))
        if key not in by_tensor:
            by_tensor[key] = _digest(tensor)
        found[name] = by_tensor[key]
    return found


def _digest(tensor: Tensor) -> str:
    parts = [digest_of(part) for part in tensors_of(tensor) if can_be_stored(part)]
    return parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()


def save_weights(module: nn.Module, path: Path, *, below: tuple[str, ...] = ("",)) -> int:
    """Write the weights of the modules at the paths of `below`; how many tensors were written."""
    flat = {
        name: tensor
        for name, tensor in flat_weights(module).items()
        if any(not start or name.startswith(start + ".") for start in below)
    }
    unfit = [name for name, tensor in flat.items() if not can_be_stored(tensor)]
    if unfit:
        reason = f"{unfit[0]} is quantized in a way that a safetensors file cannot hold"
        raise ConfigError("weights", path, reason)
    first: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
    tied = {}
    for name, tensor in flat.items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if first.setdefault(key, name) != name and tensor.numel():
            tied[name] = first[key]
    # Views of one storage are different tensors to a reader of the file.
    stored = {n: t.cpu().contiguous().clone() for n, t in flat.items() if n not in tied}
    with replacing(path) as unfinished:
        save_file(stored, unfinished, metadata={_TIED: json.dumps(tied)})
    return len(stored)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The flat weights of a file, tied ones under every name."""
    stored = read_tensors(path)
    with safe_open(path, framework="pt") as file:
        told = (file.metadata() or {}).get(_TIED, "{}")
    try:
        tied = json.loads(told)
        return {**stored, **{name: stored[other] for name, other in tied.items()}}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise broken(path.parent, f"{path.name} names tied weights that it has not") from None


def read_nested(path: Path) -> Nested:
    """The weights of a file as nested dicts and lists."""
    return nest(read_weights(path))


def put_weights(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Give a module these values in the dtypes that they have; names have to be the same."""
    own = flat_weights(module)
    for name in [*own, *values]:
        if name not in own or name not in values:
            where = "the stored weights" if name in own else "this network"
            raise ConfigError("weights", name, f"not among {where}")
    made: dict[int, nn.Parameter] = {}
    for name, value in values.items():
        path, _, last = name.rpartition(".")
        owner = module.get_submodule(path)
        old = own[name]
        if old.shape != value.shape:
            reason = f"stored as {list(value.shape)}, here {list(old.shape)}"
            raise ConfigError("weights", name, reason)
        if last in owner._buffers:
            owner._buffers[last] = value.to(old.device)
        else:
            # What is tied in the file is one tensor here, and nothing else is.
            parameter = nn.Parameter(value.to(old.device), requires_grad=False)
            owner._parameters[last] = made.setdefault(id(value), parameter)
