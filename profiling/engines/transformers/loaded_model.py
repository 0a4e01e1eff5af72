"""A model as its optimizations left it, and what making it so cost."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from profiling.engines.transformers.fixed_cache import FixedCache
from profiling.models.model import Model


@dataclass(kw_only=True)
class BuildCosts:
    """What it took to make a variant: times and files add up over a stack, peaks do not."""

    make_s: float | None = None
    make_peak_bytes: float | None = None
    artifact_bytes: float | None = None

    def add(self, *, make_s: float, make_peak_bytes: float | None, artifact_bytes: float) -> None:
        self.make_s = (self.make_s or 0) + make_s
        if make_peak_bytes is not None:
            self.make_peak_bytes = max(self.make_peak_bytes or 0, make_peak_bytes)
        self.artifact_bytes = (self.artifact_bytes or 0) + artifact_bytes


@dataclass(kw_only=True)
class LoadedModel:
    """What optimizations change, one after another."""

    model: Model
    # Parts that are no modules of their own any more, with the reason.
    absorbed: dict[str, str] = field(default_factory=dict)
    fixed_cache: FixedCache | None = None
    # What generate is told besides where tokens are drafted; teaching a reference drafts none.
    drafting: dict[str, Any] = field(default_factory=dict)
    # What generate is told of the cache.
    cache_options: dict[str, Any] = field(default_factory=dict)
    cache_bits: float | None = None  # of a key or a value, scales in; None: those of the dtype
    # What weights or keys and values are rounded to when they are stored, besides the dtype.
    stored_in: set[str] = field(default_factory=set)
    build: BuildCosts = field(default_factory=BuildCosts)
    # The dtype that the language side computes in, where it is not torch that computes.
    computes_in: str | None = None
    # Bytes of the weights by name that the network lacks, since a runtime has them.
    replaced_weights: Callable[[], Mapping[str, int]] = dict

    @property
    def generate_options(self) -> dict[str, Any]:
        """What the library's generate is told besides."""
        fixed = {} if self.fixed_cache is None else self.fixed_cache.options
        # A copy: the library takes apart what it is given.
        return {**copy.deepcopy(self.cache_options), **fixed}

    def parts(self) -> dict[str, list[nn.Module]]:
        """The modules of each part; none for a part whose work another one does."""
        return self.model.parts(absorbed=frozenset(self.absorbed))

    def absorb_projector(self) -> None:
        """The vision part's module does the projector's work too."""
        if self.model.family.layout.parts.projector:
            self.absorbed["projector"] = "done inside of the vision part"
