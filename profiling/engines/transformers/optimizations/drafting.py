"""What optimizations that draft tokens share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from profiling.engines.transformers.drafts import DraftCounts, watch_drafts
from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.optimization import Optimization
from profiling.errors import Unsupported
from profiling.points.point import Point
from profiling.records import Reading
from profiling.runtimes.offered import TEXT

# Their caches cannot give tokens back that were drafted and refused.
_CACHES = ("static_cache", "compile", "quantized_cache")


class Drafting(Optimization):
    """The model checks drafted tokens, and answers what it would have answered without them."""

    # A step computes all tokens that were drafted for it.
    as_counted = False
    changes = frozenset({TEXT})
    uncertain = (
        "decoding is counted token by token; accepted drafts save steps, and can take less than"
        " this least time"
    )

    def __init__(self, *, kind: str, order: int) -> None:
        super().__init__(kind=kind, order=order)
        self.counts = DraftCounts()

    def check_point(self, point: Point) -> None:
        if point.batch_size > 1:
            raise Unsupported("the library drafts tokens for one sample at a time: batch_size=1")
        for name in _CACHES:
            if name in point.optimization:
                raise Unsupported(f"{name} has a cache that cannot give refused tokens back")

    def apply(self, loaded: LoadedModel) -> None:
        model = loaded.model
        watch_drafts(model.network.get_submodule(model.family.layout.generating), self.counts)

    def begin_pass(self) -> None:
        self.counts.forget()

    def uncounted(self) -> AbstractContextManager[None]:
        return self.counts.uncounted()

    def answered(self) -> Iterator[Reading]:
        yield from self.counts.readings()
