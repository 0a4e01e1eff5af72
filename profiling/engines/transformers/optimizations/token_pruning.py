"""Some visual tokens are left out, by a method of the folder `token_reduction/methods`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.optimization import Optimization
from profiling.engines.transformers.token_reduction.method import find_method
from profiling.engines.transformers.token_reduction.reducer import Reducer, count_kept
from profiling.errors import Unsupported
from profiling.models.family import Family
from profiling.models.geometry import Cut, Geometry
from profiling.models.network import Layout
from profiling.points.point import Point
from profiling.records import DERIVED, Reading, reading, unavailable

# Their steps are of one shape, or compiled for it, and prefill a cache laid out beforehand.
_FIXED_SHAPES = ("static_cache", "compile")
# What stands in the place of the vision encoder does not show its attention.
_ENCODER_REPLACED = ("onnx_vision", "vision_cache", "flash_attn")


class TokenPruning(Optimization):
    """Within the library's own generate; positions stay those of the whole prompt."""

    no_clip = "its methods choose among the tokens of pictures, and frames of a clip share theirs"
    approximates = "visual tokens are left out"

    def __init__(
        self, *, kind: str, order: int, method: str, keep: float, layer: int | None, seed: int
    ) -> None:
        super().__init__(kind=kind, order=order)
        self.keep = keep
        chosen = find_method(method)
        self.layer = chosen.default_layer if layer is None else layer
        self.method = chosen(seed=seed, layer=self.layer)
        self.name = method

    def check_layout(self, layout: type[Layout]) -> None:
        if layout.whole_picture is not None:
            raise Unsupported(f"no visual token can be left out: {layout.whole_picture}")
        if self.method.needs_encoder and not layout.encoder_attends:
            raise Unsupported(
                f"{self.name} goes by the attention of a vision encoder, and this family has none"
            )

    def check_family(self, family: Family) -> None:
        layers = family.costs.decoder_stack.layers
        if self.layer >= layers:
            raise Unsupported(f"layer={self.layer}: the decoder has {layers} layers, from 0")

    def check_point(self, point: Point) -> None:
        for name in _FIXED_SHAPES:
            if name in point.optimization:
                raise Unsupported(f"{name} fixes shapes before tokens are left out")
        if not self.method.needs_encoder:
            return
        for name in _ENCODER_REPLACED:
            if name in point.optimization:
                raise Unsupported(f"{self.name} reads the encoder's attention, which {name} hides")

    def apply(self, loaded: LoadedModel) -> None:
        model = loaded.model
        self.check_family(model.family)
        self.reducer = Reducer(
            network=model.network,
            family=model.family,
            method=self.method,
            keep=self.keep,
            layer=self.layer,
        )

    def shape(
        self, geometry: Geometry, *, visual_tokens: Sequence[int], text_tokens: Sequence[int]
    ) -> Geometry:
        kept = tuple(count_kept(visual, self.keep) for visual in visual_tokens)
        longest = max(visual + text for visual, text in zip(kept, text_tokens, strict=True))
        return replace(geometry, cut=Cut(layer=self.layer, tokens=longest, visual=kept))

    def begin_pass(self) -> None:
        self.reducer.forget()

    def uncounted(self) -> AbstractContextManager[None]:
        return self.reducer.uncounted()

    def answered(self) -> Iterator[Reading]:
        yield self._count()
        yield reading(
            "pruned_from_layer",
            value=self.layer,
            status=DERIVED,
            source="the setting, or what the method has by default",
        )

    def _count(self) -> Reading:
        kept = self.reducer.kept
        if not kept:
            return unavailable("visual_tokens_kept", "no sample was answered")
        return reading(
            "visual_tokens_kept",
            value=sum(kept) / len(kept),
            status=DERIVED,
            source="counted at each prefill while every sample was answered once",
        )


OPTIMIZATION = TokenPruning
