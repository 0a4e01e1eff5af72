"""Keys and values quantized, by the library's own caches."""

from __future__ import annotations

from typing import Any

import torch

from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.optimization import (
    Optimization,
    require_package,
)
from profiling.errors import Unsupported
from profiling.models.network import Layout
from profiling.points.point import Point
from profiling.runtimes.offered import TEXT

_REQUIREMENTS = "requirements-cache.txt"
_PACKAGES = {"quanto": "optimum.quanto", "hqq": "hqq"}


class QuantizedCache(Optimization):
    """What the prompt gives is quantized at once, later tokens as soon as the residual is full."""

    changes = frozenset({TEXT})
    # Attention multiplies values that were quantized and read back.
    as_counted = False

    def __init__(
        self, *, kind: str, order: int, backend: str, bits: int, group: int, residual: int
    ) -> None:
        super().__init__(kind=kind, order=order)
        self.backend, self.group, self.residual = backend, group, residual
        self.bits = bits

    def check_layout(self, layout: type[Layout]) -> None:
        if layout.encoder_decoder:
            raise Unsupported("the library quantizes no cache of an encoder-decoder")

    def check_point(self, point: Point) -> None:
        if "compile" in point.optimization:
            raise Unsupported("compile needs a cache of fixed length, which is not quantized")

    def check(self, point: Point) -> None:
        package = _PACKAGES.get(self.backend)
        if package is not None:
            require_package(package.split(".")[0], _REQUIREMENTS)
            require_package(package, _REQUIREMENTS)

    def cache_bits(self, dtype: torch.dtype) -> float:
        if self.backend not in _PACKAGES:
            return self.bits  # beside one scale for all
        # Each group has a scale and a zero in the dtype.
        return self.bits + 2 * 8 * dtype.itemsize / self.group

    def newest_tokens(self, count: int) -> int:
        return count % self.residual if self.backend in _PACKAGES else 0

    def apply(self, loaded: LoadedModel) -> None:
        loaded.cache_bits = self.cache_bits(loaded.model.dtype)
        loaded.stored_in.add(f"{'int' if self.backend in _PACKAGES else 'float'}{self.bits}")
        loaded.cache_options = {
            "cache_implementation": "quantized",
            "cache_config": {"backend": self.backend, **self._settings()},
        }

    def _settings(self) -> dict[str, Any]:
        if self.backend not in _PACKAGES:
            return {}
        # The axis of groups is the library's: along the other one, hqq packs pairs of groups and
        # cannot read back an odd number of them.
        return {
            "nbits": self.bits,
            "q_group_size": self.group,
            "residual_length": self.residual,
        }


OPTIMIZATION = QuantizedCache
