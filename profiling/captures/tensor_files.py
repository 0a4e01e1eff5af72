"""Tensors in safetensors files, each once, named by a digest of what it holds."""

from __future__ import annotations

import ctypes
import hashlib
import json
import re
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
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
    plain = type(tensor) in _PLAIN or not is_traceable_wrapper_subclass(tensor)
    return bool(
        plain
        and tensor.dtype in _STORED_AS
        and tensor.layout is torch.strided
        and not tensor.is_meta
    )


_PLAIN = (Tensor, nn.Parameter)
# What safetensors files call the dtypes that they know.
_STORED_AS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def digest_of(tensor: Tensor) -> str:
    """A digest of dtype, shape and values; strides have no part in it."""
    return _digest(gathered(tensor))


def gathered(tensor: Tensor) -> Tensor:
    """The values in the processor's memory, one after the other; where they lie so already, there.

    Views that negate or conjugate what they look at are computed.
    """
    if tensor.is_cpu and tensor.is_contiguous() and not (tensor.is_neg() or tensor.is_conj()):
        return tensor
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()


def _digest(held: Tensor) -> str:
    head = f"{held.dtype}{tuple(held.shape)}".encode()
    # The fastest of hashlib's on processors without instructions for SHA.
    digest = hashlib.blake2b(head + b"\0", digest_size=16)
    digest.update(_bytes_of(held))
    return digest.hexdigest()


def _bytes_of(held: Tensor) -> Any:
    return (ctypes.c_char * held.nbytes).from_address(held.data_ptr()) if held.nbytes else b""


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Of two gathered tensors of one dtype and shape: nan is nan here, and 0 is not -0."""
    return _compare_memory(one.data_ptr(), other.data_ptr(), one.nbytes) == 0


_compare_memory = ctypes.CDLL(None).memcmp
_compare_memory.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write gathered tensors as safetensors: the length of a header, the header, and the values."""
    # Larger elements first, so that each lies where its size divides its place.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header, end = {}, 0
    for name, held in ordered:
        begin, end = end, end + held.nbytes
        told = {"dtype": _STORED_AS[held.dtype], "shape": list(held.shape)}
        header[name] = {**told, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _, held in ordered:
            stream.write(_bytes_of(held))


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
        held = gathered(tensor)
        name = self._name(tensor, held)
        size = held.nbytes
        self.offered_bytes += size
        self._uses[name] += 1
        if name not in self._sizes:
            # The network may write into it later, and a view would keep its whole base alive.
            self._held[name] = held.detach().clone() if held is tensor else held
            self._sizes[name] = size + ENTRY_BYTES
            self.bytes += self._sizes[name]
        return name

    def _name(self, tensor: Tensor, held: Tensor) -> str:
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        name = self._seen.get(place, "")
        before = self._held.get(name)
        if before is None or not _same_bits(held, before):
            name = self._seen[place] = _digest(held)
        return name

    def keep(self, names: Iterable[str]) -> None:
        """Write these when there is a file's worth of them."""
        new = {name for name in names if name in self._held and name not in self._kept}
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
            write_tensors(unfinished, {name: self._held.pop(name) for name in self._kept})
        self.files += 1
        self._kept, self._kept_bytes = set(), 0


class TensorReader:
    """The tensors of a folder by digest; each is checked against its digest when it is read."""

    def __init__(self, folder: Path, *, files: int) -> None:
        self._folder = folder
        found = {path.name for path in folder.iterdir() if _FILE.fullmatch(path.name)}
        self._files = []
        # One after another: a description may claim any number.
        for name in map(FILE_NAME.format, range(files)):
            if name not in found:
                raise broken(folder, f"there is no {name} in it")
            self._files.append(_open(folder, name))
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
