"""Parts of a model on their own: the vision part on pictures, the language part on embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from profiling.models.family import Family
from profiling.models.loading import find_family, read_config
from profiling.models.model import Model
from profiling.parts.cutting import file_of, read_ties
from profiling.parts.reduced import Replacements, load_reduced


def read_family(folder: Path) -> Family:
    """The family of a folder of parts, with the processor that was cut with it."""
    kind = find_family(read_ties(folder)["model"])
    options = {"local_files_only": True}
    config = read_config(kind.layout.network_class.config_class, str(folder), options)
    return kind.load(config=config, folder=folder, processor_options=options)


def load_vision(
    folder: Path, *, family: Family, dtype: torch.dtype | str, device: torch.device
) -> Model:
    """The vision part and nothing else: ask it with `embed`."""
    nothing: dict[str, nn.Module | Tensor] = {
        path: nn.Module() for path in family.layout.language_paths
    }
    network = _load(folder, "vision", nothing, family, dtype, device)
    (first, *_) = network.get_submodule(family.layout.parts.vision).parameters()
    return _as_model(network, family, device, first.dtype)


def load_language(
    folder: Path, *, family: Family, dtype: torch.dtype | str, device: torch.device
) -> Model:
    """A model that takes embeddings where it would take pixels: ask it with `answer_from`."""
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


def load_embedding(folder: Path) -> nn.Embedding:
    """The token embedding where it is a part of its own."""
    with safe_open(file_of(folder, "embedding"), framework="pt") as stored:
        (name, *_) = stored.keys()
        return nn.Embedding.from_pretrained(stored.get_tensor(name))


def embed(vision: Model, inputs: Mapping[str, Tensor]) -> Tensor:
    """Embeddings of the pictures in a batch, a row for each visual token: [N, width]."""
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
    """New tokens [B, T] about pictures that were embedded before."""
    placed = language.place(language.family.layout.with_embeddings(inputs, embeddings))
    return language.generate(placed, side=side, length=length, exact=exact)
