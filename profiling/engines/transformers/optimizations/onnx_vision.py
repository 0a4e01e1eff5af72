"""The vision part with its projector in ONNX Runtime, in the place of the torch modules."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import Any

import torch

from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.optimization import Optimization, require_package
from profiling.errors import Unsupported
from profiling.models.loading import LoadPlan, find_family
from profiling.points.point import Point
from profiling.runtimes.offered import VISION

_NEEDED = ("onnx", "onnxruntime", "onnxscript", "onnxslim")


class OnnxVision(Optimization):
    """Exports once for each content; every later run only opens the file."""

    replaces_parts = True
    as_counted = False
    needs_dense = True
    changes = frozenset({VISION})

    def __init__(
        self,
        *,
        kind: str,
        order: int,
        layout: str,
        parts: int,
        simplify: bool,
        quantize: str | None,
        optimize: bool,
        provider: str | None,
        provider_options: Any,
    ) -> None:
        super().__init__(kind=kind, order=order)
        self.layout, self.parts, self.simplify = layout, parts, simplify
        self.quantize, self.optimize = quantize, optimize
        self.provider = provider
        self.provider_options = {} if provider_options is None else provider_options
        self._vision: tuple[str, ...] = ()

    def check(self, point: Point) -> None:
        for name in _NEEDED:
            require_package(name, "requirements.txt")
        from profiling.runtimes.onnxruntime import ProviderAbsent, find_provider

        try:
            find_provider(self.provider, point.device)
        except ProviderAbsent as problem:
            raise Unsupported(str(problem)) from None
        parts = find_family(point.model).layout.parts
        self._vision = (parts.vision, *parts.projector)

    def import_libraries(self) -> None:
        for name in ("profiling.graphs.graph_cache", "profiling.graphs.vision_chain"):
            import_module(name)

    def plan(self, plan: LoadPlan) -> LoadPlan:
        """The part that is exported is left out where the rest is quantized."""
        return dataclasses.replace(plan, whole=(*plan.whole, *self._vision))

    def apply(self, loaded: LoadedModel) -> None:
        model = loaded.model
        # Both import the runtime, which a point without this optimization has no use for.
        from profiling.graphs.export import half_dtype
        from profiling.graphs.graph_cache import cached_vision
        from profiling.graphs.vision_chain import load_vision, put_vision, read_check
        from profiling.parts.artifacts import size_bytes
        from profiling.runtimes.onnxruntime import ProviderAbsent

        try:
            path = cached_vision(
                model,
                layout=self.layout,
                parts=self.parts,
                simplify=self.simplify,
                quantize=self.quantize,
                optimize=self.optimize,
                provider=self.provider,
            )
            vision = load_vision(
                path,
                model=model,
                threads=torch.get_num_threads(),
                provider=self.provider,
                provider_options=self.provider_options,
            )
        except ProviderAbsent as problem:
            raise Unsupported(str(problem)) from None
        stored = half_dtype(model, self.layout)
        loaded.stored_in.add(self.quantize or str(stored).removeprefix("torch."))
        put_vision(model, vision)
        loaded.absorb_projector()
        record = read_check(path)
        loaded.build.add(
            make_s=record["make_s"],
            make_peak_bytes=record["make_peak_bytes"],
            artifact_bytes=size_bytes(path.parent),
        )


OPTIMIZATION = OnnxVision
