"""Tensors in safetensors files, each once, named by a digest of what it holds."""

from __future__ import annotations

import hashlib
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from profiling.errors import ConfigError
from profiling.parts.artifacts import replacing

FILE_NAME = "tensors-{:05}.safetensors"
_FILE = re.compile(r"tensors-(\d{5})\.safetensors")
# What a tensor takes in a file besides its values: its entry in the header.
ENTRY_BYTES = 160
# A view may be spread over more memory than its values take, up to this many elements.
LARGEST_SPREAD = 2**26
# To what allocators align memory.
ALIGNMENT_BYTES = 64


def broken(folder: Path, what: str) -> ConfigError:
    return ConfigError("capture", folder, what)


def can_be_stored(tensor: Any) -> bool:
    """Whether a tensor has values of its own that a safetensors file can hold."""
    plain = type(tensor) in (Tensor, nn.Parameter) or not is_traceable_wrapper_subclass(tensor)
    return bool(
        plain
        and tensor.dtype in _DTYPES
        and tensor.layout == torch.strided
        and tensor.device.type != "meta"
    )


_DTYPES = frozenset(
    getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
        *("int64", "int32", "int16", "int8", "uint8", "bool", "complex64"),
    )
)


def digest_of(tensor: Tensor) -> str:
    """A digest of dtype, shape and values; strides have no part in it."""
    return _digest(tensor.detach().to("cpu").contiguous())


def _digest(held: Tensor) -> str:
    head = f"{held.dtype}{tuple(held.shape)}".encode()
    # Processors have instructions for it, which makes it the fastest one there is here.
    digest = hashlib.sha256(head + b"\0")
    digest.update(_bytes_of(held))
    return digest.hexdigest()[:32]


def _bytes_of(held: Tensor) -> Any:
    # NumPy has no dtype for some of torch's.
    known = held if held.dtype in _IN_NUMPY else held.reshape(-1).view(torch.uint8)
    return known.numpy().reshape(-1).view(numpy.uint8)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    whole = _BITS.get(one.element_size())
    return whole is not None and torch.equal(one.view(whole), other.view(whole))


# Whole numbers of so many bytes: nan is then nan, and 0 is not -0.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_IN_NUMPY = frozenset((torch.float32, torch.float64, torch.float16, torch.int64, torch.bool))


class TensorWriter:
    """Holds tensors until the calls that use them are kept or left out; writes the kept ones."""

    def __init__(self, *, folder: Path, file_bytes: int) -> None:
        self._folder, self._file_bytes = folder, file_bytes
        self._held: dict[str, Tensor] = {}
        # What was last seen at a place in memory: to compare is cheaper than to digest.
        self._seen: dict[tuple[Any, ...], str] = {}
        self._kept: set[str] = set()
        self._kept_bytes = 0
        self._uses: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}
        self.files = 0
        self.bytes = 0  # of everything held or written
        self.offered_bytes = 0

    def add(self, tensor: Tensor) -> str:
        """The tensor's digest; one more use of it until it is released."""
        held = tensor.detach()
        if not (held.is_cpu and held.is_contiguous()):
            held = held.cpu().contiguous()
        name = self._name(held)
        self.offered_bytes += held.nbytes
        self._uses[name] += 1
        if name not in self._sizes:
            # The network may write into it later, and a view would keep its whole base alive.
            self._held[name] = held.clone() if held.data_ptr() == tensor.data_ptr() else held
            self._sizes[name] = held.nbytes + ENTRY_BYTES
            self.bytes += self._sizes[name]
        return name

    def _name(self, held: Tensor) -> str:
        place = (held.data_ptr(), held.shape, held.dtype)
        before = self._held.get(self._seen.get(place, ""))
        if before is None or not _same_bits(held, before):
            self._seen[place] = _digest(held)
        return self._seen[place]

    def keep(self, names: Iterable[str]) -> None:
        """Write these when there is a file's worth of them."""
        new = {name for name in names if name in self._held} - self._kept
        self._kept |= new
        self._kept_bytes += sum(self._sizes[name] for name in new)
        if self._kept_bytes >= self._file_bytes:
            self.flush()

    def release(self, names: Iterable[str]) -> None:
        """One use less of each; what is no longer used is forgotten."""
        for name in names:
            self._uses[name] -= 1
            if not self._uses[name] and name in self._held and name not in self._kept:
                del self._held[name]
                self.bytes -= self._sizes.pop(name)

    def flush(self) -> None:
        if not self._kept:
            return
        with replacing(self._folder / FILE_NAME.format(self.files)) as unfinished:
            save_file({name: self._held.pop(name) for name in sorted(self._kept)}, unfinished)
        self.files += 1
        self._kept, self._kept_bytes = set(), 0


class TensorReader:
    """The tensors of a folder by digest; each is checked against its digest when it is read."""

    def __init__(self, folder: Path, *, files: int) -> None:
        self._folder = folder
        found = {path.name for path in folder.iterdir() if _FILE.fullmatch(path.name)}
        wanted = [FILE_NAME.format(number) for number in range(files)]
        for name in wanted:
            if name not in found:
                raise broken(folder, f"there is no {name} in it")
        self._files = [_open(folder, name) for name in wanted]
        self._places = {name: file for file in self._files for name in file.keys()}  # noqa: SIM118
        self._read: dict[str, Tensor] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def read(self, name: str) -> Tensor:
        if name not in self._read:
            if name not in self._places:
                raise broken(self._folder, f"no file has the tensor {name}")
            # Where memory begins decides which kernel is taken: a copy begins where torch would.
            tensor = self._places[name].get_tensor(name).clone()
            if digest_of(tensor) != name:
                raise broken(self._folder, f"the tensor {name} has other values than its digest")
            self._read[name] = tensor
        return self._read[name]


def require_file(path: Path, *, at_most: int | None = None) -> Path:
    """Refuse what is missing, no plain file (a pipe would wait for ever), or far too large."""
    try:
        status = path.lstat()
    except OSError:
        raise broken(path.parent, f"there is no {path.name} in it") from None
    if not stat.S_ISREG(status.st_mode):
        raise broken(path.parent, f"{path.name} is not a regular file")
    if at_most is not None and status.st_size > at_most:
        raise broken(path.parent, f"{path.name} has {status.st_size} bytes; at most {at_most}")
    return path


def _open(folder: Path, name: str) -> Any:
    try:
        return safe_open(require_file(folder / name), framework="pt")
    except (SafetensorError, OSError) as error:
        raise broken(folder, f"{name} is not safetensors: {error}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one file by name."""
    file = _open(path.parent, path.name)
    return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def spread_of(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Over how many elements of memory a view reaches."""
    return sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True) if n) + 1


def overlaps(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether elements share a place in memory otherwise than by plain repetition."""
    taken = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1 and stride:
            if stride < taken:
                return True
            taken = (size - 1) * stride + taken
    return False


def offset_of(tensor: Tensor) -> int:
    """By how many elements a tensor begins after a place where memory is aligned."""
    return (tensor.data_ptr() % ALIGNMENT_BYTES) // tensor.element_size()


def laid_out(tensor: Tensor, strides: Sequence[int], offset: int) -> Tensor:
    """The same values at the same distances in memory: kernels choose and sum by where they lie."""
    once = tensor
    for axis, stride in enumerate(strides):
        if not stride and tensor.shape[axis] > 1:
            once = once.narrow(axis, 0, 1)
    space = offset + spread_of(once.shape, strides)
    memory = torch.empty(space, dtype=once.dtype, device=once.device)
    return memory.as_strided(once.shape, strides, offset).copy_(once).expand(tensor.shape)
