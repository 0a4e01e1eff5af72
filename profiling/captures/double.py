"""Modules in float64: what they would return without the rounding of their own dtype."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers.cache_utils import BaseQuantizedLayer, Cache

from profiling.captures.encoding import Opaque
from profiling.captures.folder import Call, Capture
from profiling.captures.leaves import contents, leaves, without_caches
from profiling.captures.weight_files import flat_weights
from profiling.errors import describe_error
from profiling.models.storage import holds_quantized

_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_CASTS = {Tensor.float: Tensor.double, Tensor.half: Tensor.double, Tensor.bfloat16: Tensor.double}


class InFloat64(TorchFunctionMode):
    """Norms, softmax and rotary positions cast to float32 by name; here they get float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = {name: _lifted(value) for name, value in (kwargs or {}).items()}
        if func in (Tensor.to, Tensor.type):
            args = tuple(map(_lifted, args))
        return _CASTS.get(func, func)(*args, **named)


def _lifted(value: Any) -> Any:
    return torch.float64 if any(value is dtype for dtype in _NARROW) else value


class Unable(RuntimeError):
    """Why a module cannot be run in float64, in one line."""


class Float64Network:
    """A copy of a network in float64 that runs captured calls."""

    def __init__(self, capture: Capture, network: nn.Module) -> None:
        self._capture = capture
        try:
            self.network = copy.deepcopy(network).double()
        except Exception as error:
            raise Unable(f"the network has no copy in float64: {error}") from error
        self.device = next((str(t.device) for t in self.network.parameters()), "cpu")
        self._exact: dict[int, dict[str, Tensor]] = {}
        self._reads: dict[tuple[str, str], bool] = {}

    def outputs(self, call: Call) -> dict[str, Tensor]:
        """The call's output, and the cache after it, by path; each call is run once."""
        if call.id not in self._exact:
            self._exact[call.id] = self.run(call, self.network.get_submodule(call.module))
        return self._exact[call.id]

    def reads(self, call: Call, name: str) -> bool:
        """Whether a weight of the call's module has any effect on the call."""
        key = (call.module, name)
        if key not in self._reads:
            wanted = self.outputs(call)
            weight = flat_weights(self.network)[f"{call.module}.{name}".removeprefix(".")]
            with replaced(weight, weight + 1):
                try:
                    found = self.run(call, self.network.get_submodule(call.module))
                except Unable:
                    return True
            self._reads[key] = any(not torch.equal(found[path], wanted[path]) for path in wanted)
        return self._reads[key]

    def run(self, call: Call, module: nn.Module) -> dict[str, Tensor]:
        if holds_quantized(module):
            raise Unable("its weights are quantized, and have no values of their own there")
        return run_call(self._capture, call, module, device=self.device, double=True)


@contextmanager
def replaced(weight: Tensor, value: Tensor) -> Iterator[None]:
    """Other values in the place of a weight's, for everything that uses it."""
    old = weight.clone()
    weight.copy_(value)
    try:
        yield
    finally:
        weight.copy_(old)


def run_call(
    capture: Capture, call: Call, module: nn.Module, *, device: str = "cpu", double: bool = False
) -> dict[str, Tensor]:
    """What a module returns on a captured call's arguments, and the cache after it, by path."""
    args, kwargs = capture.arguments(call, device, torch.float64 if double else None)
    if any(isinstance(value, Opaque) for value in (*args, *kwargs.values())):
        raise Unable("an argument was not stored")
    if double and any(_is_quantized(value) for value in (*args, *kwargs.values())):
        raise Unable("its cache is quantized, and has no values of its own there")
    try:
        with torch.inference_mode(), InFloat64() if double else nullcontext():
            output = module(*args, **kwargs)
    except Exception as error:
        raise Unable(describe_error(error)) from error
    named = {**{str(i): value for i, value in enumerate(args)}, **kwargs}
    return name_outputs(output, [named[name] for name in call.caches_after])


def _is_quantized(value: Any) -> bool:
    """Whether a value is a cache that the library quantizes, or has been."""
    layers = getattr(value, "layers", ()) if isinstance(value, Cache) else ()
    return any(isinstance(layer, BaseQuantizedLayer) for layer in layers)


def captured_outputs(capture: Capture, call: Call) -> dict[str, Tensor]:
    """What the original returned in its own dtype, by the same paths."""
    return name_outputs(capture.output(call), list(capture.caches_after(call).values()))


def name_outputs(output: Any, caches: list[Any]) -> dict[str, Tensor]:
    """Tensors of an output by path, and of the cache below `cache`."""
    found = dict(leaves(without_caches(output)))
    for cache in caches[:1]:
        held = contents(cache) if isinstance(cache, Cache) else cache
        found |= dict(leaves(held, "cache"))
    return found
