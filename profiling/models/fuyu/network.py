"""The layout of Fuyu's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import FuyuForCausalLM

from profiling.models.network import Layout, Parts
from profiling.models.tower import VisionTower


class LinearTower(VisionTower):
    """One linear layer without blocks."""

    axes: ClassVar[Mapping[str, Mapping[int, str]]] = {"pixel_values": {0: "patches"}}
    hidden_axes: ClassVar[Mapping[int, str]] = {0: "patches"}

    def __init__(self, linear: nn.Module) -> None:
        super().__init__([])
        self.linear = linear

    def embed(self, pixels: Tensor, *extras: Tensor) -> Tensor:
        return self.linear(pixels)  # type: ignore[no-any-return]

    def run_block(self, index: int, hidden: Tensor, *extras: Tensor) -> Tensor:
        raise IndexError(f"a linear layer has no block {index}")

    def finish(self, hidden: Tensor) -> Tensor:
        return hidden


class FuyuLayout(Layout):
    """A linear patch embedding and a Persimmon decoder; there is no projector."""

    parts = Parts(
        vision="model.vision_embed_tokens",
        projector=(),
        language="model.language_model",
        head="lm_head",
        text_encoder=None,
    )
    network_class = FuyuForCausalLM

    def embed(self, network: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        embeddings: Tensor = network.get_submodule(self.parts.vision)(inputs["pixel_values"])
        return embeddings

    def tower(self, network: Any) -> LinearTower:
        return LinearTower(network.get_submodule(self.parts.vision))

    def stand_ins(self, dtype: torch.dtype) -> dict[str, nn.Module | Tensor]:
        return {self.parts.vision: nn.Identity()}
