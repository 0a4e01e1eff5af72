"""Captured calls run again on the modules that they were captured from; are the bits the same?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from profiling.captures.encoding import Opaque
from profiling.captures.folder import Call, Capture
from profiling.captures.leaves import leaves
from profiling.captures.tensor_files import digest_of
from profiling.errors import describe_error


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A call that was run again: what differs, or why it could not be run."""

    call: Call
    different: tuple[str, ...]  # paths of outputs that are not the same bits
    unable: str | None

    @property
    def equal(self) -> bool:
        return not self.different and self.unable is None


def replay_all(capture: Capture, network: nn.Module, device: str = "cpu") -> Iterator[Replayed]:
    for call in capture.calls:
        yield replay(capture, call, network.get_submodule(call.module), device)


def replay(capture: Capture, call: Call, module: nn.Module, device: str) -> Replayed:
    args, kwargs = capture.arguments(call, device)
    unstored = [kind for part in (args, kwargs) for kind in opaque_in(part)]
    if unstored:
        return _unable(call, f"an argument was not stored: {unstored[0]}")
    try:
        with torch.inference_mode(), _as_with_hooks(module):
            output = module(*args, **kwargs)
    except Exception as error:
        return _unable(call, f"the module raised {describe_error(error)}")
    named: dict[str, Any] = {**{str(i): value for i, value in enumerate(args)}, **kwargs}
    found = dict(leaves(output))
    wanted = dict(leaves(capture.output(call, device)))
    for name, after in capture.caches_after(call, device).items():
        found |= dict(leaves(named[name], f"cache {name}"))
        wanted |= dict(leaves(after, f"cache {name}"))
    different = tuple(
        path for path in wanted if path not in found or not same_bits(found[path], wanted[path])
    )
    return Replayed(call=call, different=different, unable=None)


def _unable(call: Call, reason: str) -> Replayed:
    return Replayed(call=call, different=(), unable=reason)


@contextmanager
def _as_with_hooks(module: nn.Module) -> Iterator[None]:
    """torch's encoder layers leave their fused path while hooks are on them."""
    handles = [inner.register_forward_pre_hook(_do_nothing) for inner in module.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _do_nothing(*_: Any) -> None:
    return None


def same_bits(found: Tensor, wanted: Tensor) -> bool:
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        return False
    return torch.equal(found, wanted) or digest_of(found) == digest_of(wanted)


def opaque_in(value: Any) -> Iterator[str]:
    """The classes of values that were not stored."""
    if isinstance(value, Opaque):
        yield value.kind
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from opaque_in(name)
            yield from opaque_in(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from opaque_in(part)
    elif isinstance(value, Cache):
        yield from opaque_in(vars(value))
