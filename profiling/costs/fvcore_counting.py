"""A second count of the same forwards by fvcore, which reads a traced graph.

fvcore counts multiply-adds and includes norms; here norms are removed and the rest is doubled. It
does not see fused attention, so the twin uses eager attention.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from profiling.costs.twin import Forward, Twin
from profiling.models.family import Family
from profiling.models.geometry import Geometry
from profiling.models.patch_product import PatchProduct

_PRODUCTS = ("linear", "matmul", "conv", "einsum", "bmm", "addmm", "mm", "baddbmm")


class NotTraceable(RuntimeError):
    """The forward of a part cannot be traced; the message says why."""


def traceable_twin(family: Family) -> Twin:
    """A twin whose forwards are made of operators that fvcore knows."""
    twin = Twin(family=family, attention="eager")
    found = [
        (path, module)
        for path, module in twin.network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Conv3d)) and module.kernel_size == module.stride
    ]
    # The library cannot trace a convolution of tensors without values.
    for path, module in found:
        parent, _, name = path.rpartition(".")
        setattr(twin.part(parent), name, PatchProduct(convolution=module))
    return twin


def count_with_fvcore(family: Family, geometry: Geometry) -> Iterator[tuple[str, int | str]]:
    """FLOPs of each phase that the family has, or why it cannot be traced."""
    twin = traceable_twin(family)
    yield "vision", _try(_count_vision, twin, geometry)
    if family.layout.parts.projector:
        yield "projector", _try(_count_all, twin, twin.projector(geometry))
    yield "prefill", _try(_count_all, twin, twin.prefill(geometry, twin.new_cache()))
    if geometry.new_tokens > 1:
        yield "decode", _try(_count_decode, twin, geometry)


def _try(count: Callable[..., int], *args: Any) -> int | str:
    try:
        return count(*args)
    except NotTraceable as error:
        return str(error)


def _count_vision(twin: Twin, geometry: Geometry) -> int:
    inner = _count_all(twin, twin.inside_vision(geometry))
    return _count_all(twin, twin.vision(geometry)) - inner


def _count_decode(twin: Twin, geometry: Geometry) -> int:
    """All steps; the cost grows linearly from the first to the last."""
    cache, last = twin.new_cache(), geometry.new_tokens - 1
    for forward in twin.prefill(geometry, cache):
        with torch.inference_mode():
            twin.part(forward.path)(**forward.inputs)
    first_flops, last_flops = (
        _count_all(twin, twin.step(geometry, step, copy.deepcopy(cache))) for step in (1, last)
    )
    return last * (first_flops + last_flops) // 2


def _count_all(twin: Twin, forwards: list[Forward]) -> int:
    return sum(_count(twin.part(forward.path), forward.inputs) for forward in forwards)


class _Call(nn.Module):
    """Calls a module with tensors by position and returns only tensors."""

    def __init__(self, *, module: nn.Module, names: list[str], others: Mapping[str, Any]) -> None:
        super().__init__()
        self.module, self.names, self.others = module, names, others

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        output = self.module(**dict(zip(self.names, tensors, strict=True)), **self.others)
        values = [output] if isinstance(output, Tensor) else output.values()
        return tuple(value for value in values if isinstance(value, Tensor))


def _count(module: nn.Module, inputs: Mapping[str, Any]) -> int:
    from fvcore.nn import FlopCountAnalysis

    # Tensors with values control the forward; meta tensors are the traced inputs.
    flowing = {k: v for k, v in inputs.items() if isinstance(v, Tensor) and v.is_meta}
    others = {k: v for k, v in inputs.items() if k not in flowing}
    call = _Call(module=module, names=list(flowing), others=others)
    analysis = FlopCountAnalysis(call, tuple(flowing.values()))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    try:
        with torch.no_grad():
            by_operator = analysis.by_operator()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        line = " ".join(str(error).split())[:200]
        raise NotTraceable(f"fvcore cannot trace this part: {line}") from None
    return 2 * int(sum(by_operator[name] for name in _PRODUCTS))
