"""Captured tensors as arrays of the library that functions are written for, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy
import torch
from torch import Tensor
from transformers.cache_utils import Cache

from profiling.captures.leaves import contents
from profiling.errors import ConfigError

LIBRARIES = ("torch", "numpy", "jax")


class ArrayLibrary(ABC):
    """How tensors become arrays of a library."""

    # Why functions cannot be run in float64, where they cannot.
    no_float64: str | None = None
    # Whether functions may be given weights in subclasses of dict and list.
    takes_subclasses = True
    # Whether functions could write into what they are given, and must not.
    mutable = True
    # Whether what is returned has to be in the dtype of what the module returns.
    keeps_dtypes = True
    # Whether outputs of other shapes are named and left out, as long as others are left.
    skips_other_shapes = False

    @abstractmethod
    def array(self, tensor: Tensor) -> Any: ...

    def tensor(self, array: Any) -> Tensor:
        """In float64 where it is floating-point; other numbers and truth values as they are."""
        if isinstance(array, Tensor):
            if array.layout is not torch.strided:
                raise TypeError("a sparse tensor is compared with no dense one")
            return array.detach().to("cpu", torch.float64 if _is_float(array) else array.dtype)
        held = numpy.asarray(array)
        if held.dtype.kind not in "iubc":
            held = held.astype(numpy.float64)
        return torch.from_numpy(numpy.array(held))

    def copied(self, array: Any) -> Any:
        """An array of a function's own, which it may spoil."""
        return array

    def unchanged(self, now: Any, before: Any) -> bool:
        """Whether an array still has the values of another one; nan is nan here."""
        if now.shape != before.shape:
            return False
        return bool(((now == before) | ((now != now) & (before != before))).all())

    def dtype_in(self, dtype: torch.dtype) -> str:
        """The name of the dtype that tensors of this dtype have in the library."""
        return name_dtype(self.array(torch.empty(0, dtype=dtype)).dtype)

    def note(self, dtype: torch.dtype) -> str | None:
        """What is not as captured when values of this dtype are given to functions."""
        return None

    def convert(self, value: Any) -> Any:
        """A structure of arguments: tensors as arrays, caches as what they hold, outputs as dicts.

        Every call gets arrays of its own.
        """
        if isinstance(value, Tensor):
            return self.array(value)
        if isinstance(value, Cache):
            return self.convert(contents(value))
        if isinstance(value, Mapping):
            return {name: self.convert(part) for name, part in value.items()}
        if isinstance(value, tuple) and not isinstance(value, torch.Size):
            return tuple(map(self.convert, value))
        if isinstance(value, list):
            return list(map(self.convert, value))
        return value


def name_dtype(dtype: Any) -> str:
    """The name of a dtype of any library, such as float32."""
    return str(dtype).removeprefix("torch.")


def _is_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


class Torch(ArrayLibrary):
    def array(self, tensor: Tensor) -> Any:
        return tensor

    def copied(self, array: Any) -> Any:
        return array.clone()


class NumPy(ArrayLibrary):
    def array(self, tensor: Tensor) -> Any:
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        return numpy.array(tensor.cpu().numpy())

    def copied(self, array: Any) -> Any:
        return array.copy()

    def note(self, dtype: torch.dtype) -> str | None:
        narrow = dtype == torch.bfloat16
        return "NumPy has no bfloat16: functions get these values in float32" if narrow else None


class Jax(ArrayLibrary):
    takes_subclasses = False  # jit and grad know the plain classes only
    mutable = False

    def __init__(self) -> None:
        try:
            jax: Any = import_module("jax")
        except ImportError:
            raise ConfigError("--library", "jax", "jax is not installed here") from None
        jax.config.update("jax_enable_x64", True)
        self._numpy: Any = import_module("jax.numpy")

    def array(self, tensor: Tensor) -> Any:
        if tensor.dtype == torch.bfloat16:
            return self._numpy.asarray(tensor.float().cpu().numpy(), dtype=self._numpy.bfloat16)
        return self._numpy.asarray(tensor.cpu().numpy())

    def tensor(self, array: Any) -> Tensor:
        if getattr(array, "dtype", None) == self._numpy.bfloat16:
            array = array.astype(self._numpy.float32)
        return super().tensor(array)


def open_library(name: str) -> ArrayLibrary:
    made: dict[str, type[ArrayLibrary]] = {"torch": Torch, "numpy": NumPy, "jax": Jax}
    return made[name]()
