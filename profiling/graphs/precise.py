"""Runs a module in double precision, also where it converts to single precision by name."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class _Lifted(TorchFunctionMode):
    """Single precision, wherever it is asked for, is double precision."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if function is Tensor.float:
            return args[0].double()
        given = [_lift(value) for value in args]
        return function(*given, **{name: _lift(v) for name, v in (kwargs or {}).items()})


def _lift(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


class DoublePrecision:
    """A copy of a module whose every value is in double precision."""

    def __init__(self, module: nn.Module) -> None:
        self._module = copy.deepcopy(module).double()

    def run(self, feeds: Mapping[str, Tensor]) -> list[Tensor]:
        """The outputs for these inputs, in order."""
        given = [value.double() if value.is_floating_point() else value for value in feeds.values()]
        with torch.inference_mode(), _Lifted():
            made = self._module(*given)
        return list(made) if isinstance(made, tuple) else [made]
