"""Runs parts alone: the vision part on pictures, the language part on embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from profiling.models.family import Family
from profiling.models.model import Model
from profiling.models.stand_ins import VisionReplacement
from profiling.parts.cutting import file_of
from profiling.parts.reduced import Replacements, load_reduced, replace_parts


def load_vision(
    folder: Path, *, family: Family, dtype: torch.dtype | str, device: torch.device
) -> Model:
    """The vision part alone; run it with `embed`."""
    nothing: dict[str, nn.Module | Tensor] = {
        path: nn.Module() for path in family.layout.language_paths
    }
    network = _load(folder, "vision", nothing, family, dtype, device)
    (first, *_) = network.get_submodule(family.layout.parts.vision).parameters()
    return _as_model(network, family, device, first.dtype)


def load_language(
    folder: Path, *, family: Family, dtype: torch.dtype | str, device: torch.device
) -> Model:
    """A model that takes embeddings instead of pixels; run it with `answer_from`."""
    wanted = dtype if isinstance(dtype, torch.dtype) else torch.get_default_dtype()
    network = _load(folder, "language", family.layout.stand_ins(wanted), family, dtype, device)
    return _as_model(network, family, device, network.get_input_embeddings().weight.dtype)


def _load(
    folder: Path,
    part: str,
    replacements: Replacements,
    family: Family,
    dtype: torch.dtype | str,
    device: torch.device,
) -> Any:
    network = load_reduced(
        family.layout.network_class,
        file_of(folder, part).parent,
        replacements,
        config=family.config,
        dtype=dtype,
        device=device,
    )
    family.layout.adapt(network)
    return network


def _as_model(network: Any, family: Family, device: torch.device, dtype: torch.dtype) -> Model:
    return Model(network=network, family=family, device=device, dtype=dtype, stored_values=True)


class SeparateVision(VisionReplacement):
    """In the place of a language model's vision part: another network's, asked for embeddings."""

    def __init__(self, *, vision: Model, stand_in: Any) -> None:
        super().__init__(stand_in)
        # In a tuple, so that its weights are not taken for the language model's.
        self._vision = (vision,)

    def forward(self, given: Tensor | None = None, **named: Any) -> Any:
        (vision,) = self._vision
        pixels: Tensor = named["pixel_values"] if given is None else given
        pictures = vision.family.layout.split_pictures(pixels, named)
        together = {name: torch.cat([p[name] for p in pictures]) for name in pictures[0]}
        embeddings = embed(vision, together)
        return self.stand_in(vision.family.layout.group_by_picture(embeddings, len(pictures)))


def join(vision: Model, language: Model) -> Model:
    """The language model, whose pictures the vision part on its own embeds."""
    path = language.family.layout.parts.vision
    stand_in = language.network.get_submodule(path)
    replace_parts(language.network, {path: SeparateVision(vision=vision, stand_in=stand_in)})
    return language


def embed(vision: Model, inputs: Mapping[str, Tensor]) -> Tensor:
    """Embeddings of the pictures in a batch, one row per visual token: [N, width]."""
    with torch.inference_mode():
        return vision.family.layout.embed(vision.network, vision.place(inputs))


def answer_from(
    language: Model,
    inputs: Mapping[str, Tensor],
    embeddings: Tensor,
    *,
    side: int,
    length: int,
    exact: bool,
) -> Tensor:
    """New tokens [B, T] for pictures that are already embedded."""
    placed = language.place(language.family.layout.with_embeddings(inputs, embeddings))
    return language.generate(placed, side=side, length=length, exact=exact)
