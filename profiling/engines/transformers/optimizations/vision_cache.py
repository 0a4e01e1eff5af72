"""A picture is encoded once: its embeddings are kept for later questions about it."""

from __future__ import annotations

from profiling.engines.transformers.optimizations.optimization import Optimization
from profiling.engines.transformers.picture_cache import CachedVision, PictureCache, cut_out_vision
from profiling.models.model import Model
from profiling.parts.reduced import replace_parts


class VisionCache(Optimization):
    """Starts empty at each pass over the samples, so that only what repeats in them is saved."""

    def __init__(self, *, kind: str, order: int, max_bytes: int) -> None:
        super().__init__(kind=kind, order=order)
        self.max_bytes = max_bytes

    def apply(self, model: Model) -> Model:
        family = model.family
        stand_ins = family.layout.stand_ins(model.dtype)
        vision = CachedVision(
            family=family,
            seer=cut_out_vision(model.network, family),
            stand_in=stand_ins[family.layout.parts.vision],
            cache=PictureCache(max_bytes=self.max_bytes),
        )
        replace_parts(model.network, {**stand_ins, family.layout.parts.vision: vision})
        model.absorbed |= {"projector"} if family.layout.parts.projector else set()
        model.picture_cache = vision.cache
        return model


OPTIMIZATION = VisionCache
