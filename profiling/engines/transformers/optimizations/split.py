"""The same model from a file for each part, split off a checkpoint without loading it whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.optimization import Optimization
from profiling.models.family import Family
from profiling.models.loading import LoadPlan
from profiling.models.weights import WeightsSource
from profiling.parts.artifacts import size_bytes
from profiling.parts.build_cost import read_build_cost
from profiling.parts.cutting import file_of, read_manifest
from profiling.parts.parts_cache import parts_of
from profiling.points.point import Point


class Split(Optimization):
    """Cuts a checkpoint once; every later run of the same content reads the parts."""

    replaces_parts = True
    needs_dense = True

    def __init__(self, *, kind: str, order: int, embedding: bool) -> None:
        super().__init__(kind=kind, order=order)
        self.embedding = embedding
        self.folder: Path | None = None

    def check(self, point: Point) -> None:
        self._model = point.model

    def plan(self, plan: LoadPlan) -> LoadPlan:
        return dataclasses.replace(plan, relocate=self._relocate)

    def _relocate(self, source: WeightsSource, family: Family, network: Any) -> Path:
        self.folder = parts_of(
            source,
            family=family,
            model=self._model,
            embedding=self.embedding,
            network=network,
        )
        return self.folder

    def apply(self, loaded: LoadedModel) -> None:
        assert self.folder is not None
        parts = read_manifest(self.folder)["parts"]
        size = sum(size_bytes(file_of(self.folder, part)) for part in parts)
        loaded.build.add(**read_build_cost(self.folder), artifact_bytes=size)


OPTIMIZATION = Split
