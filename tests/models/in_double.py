"""The library's network in double precision throughout, also where its code names float32."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Lifted(TorchFunctionMode):
    """Every conversion to single precision becomes one to double precision."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.Tensor.float:
            return args[0].double()
        lift = lambda value: torch.float64 if value is torch.float32 else value  # noqa: E731
        lifted = {name: lift(value) for name, value in (kwargs or {}).items()}
        return function(*map(lift, args), **lifted)


def doubled(network: Any) -> Any:
    """A copy of the network in double precision."""
    return copy.deepcopy(network).double()
