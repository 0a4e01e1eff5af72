"""A twin without pictures: as many text tokens in the place of the visual ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.optimization import Encoded, Optimization
from profiling.errors import Unsupported
from profiling.models.family import Family
from profiling.models.model import Prepared
from profiling.points.point import Point
from profiling.samples.prompt_length import NEUTRAL_WORDS

_REASON = "there is no picture: text tokens stand in its place"
_TEXT_INPUTS = ("input_ids", "attention_mask")
# They change what is not there.
_OF_PICTURES = ("token_pruning", "vision_cache", "onnx_vision")

Key = tuple[int | None, tuple[tuple[str, str], ...]]


class TextOnly(Optimization):
    """The prompt has the same length, and the language model computes the same.

    A batch is seen once with its pictures, to know how many tokens they take; from then on no
    picture is processed, and the prompt is tokenized.
    """

    replaces_parts = True
    approximates = "there is no picture"
    left_out = dict.fromkeys(("vision", "projector"), _REASON)

    def __init__(self, *, kind: str, order: int) -> None:
        super().__init__(kind=kind, order=order)
        self._known: dict[Key, Encoded] = {}

    def check_point(self, point: Point) -> None:
        for name in _OF_PICTURES:
            if name in point.optimization:
                raise Unsupported(f"{name} needs a picture, and text_only has none")

    def apply(self, loaded: LoadedModel) -> None:
        network, layout = loaded.model.network, loaded.model.family.layout
        network.generate = partial(layout.generate_text, network)
        loaded.absorbed.update(self.left_out)

    def recall(self, family: Family, batch: Sequence[Prepared], side: int | None) -> Encoded | None:
        known = self._known.get(_key(batch, side))
        if known is not None:
            # What a prompt of text alone has to pay for.
            family.processing.tokenizer([item.prompt for item in batch])
        return known

    def encode(
        self,
        family: Family,
        batch: Sequence[Prepared],
        side: int | None,
        tensors: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        processing = family.processing
        (word, *_) = processing.tokenizer(NEUTRAL_WORDS[0], add_special_tokens=False)["input_ids"]
        ids = tensors["input_ids"]
        visual = torch.isin(ids, torch.tensor(processing.visual_token_ids))
        given = {name: tensors[name] for name in _TEXT_INPUTS}
        given["input_ids"] = ids.masked_fill(visual, word)
        self._known[_key(batch, side)] = Encoded(given, tensors)
        return given


def _key(batch: Sequence[Prepared], side: int | None) -> Key:
    return side, tuple((item.sample.id, item.prompt) for item in batch)


OPTIMIZATION = TextOnly
