"""The layout of Fuyu's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import FuyuForCausalLM

from profiling.models.network import Layout, Parts
from profiling.models.scaled_inputs import ScaledInput
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

    def scaled_inputs(self, network: Any) -> list[ScaledInput]:
        paths = self.layer_paths(f"{self.decoder}.layers", network)
        return [one for path in paths for one in self._scaled_in(path)]

    def _scaled_in(self, path: str) -> list[ScaledInput]:
        attention, inner = f"{path}.self_attn", f"{path}.mlp"
        shape = self.cache_shape
        # One product gives query, key and value of a head, then those of the next.
        values = tuple(
            (3 * head + 2) * shape.width + channel
            for head in range(shape.heads)
            for channel in range(shape.width)
        )
        found = [
            ScaledInput(before=f"{path}.input_layernorm", layers=(f"{attention}.query_key_value",)),
            ScaledInput(
                before=f"{attention}.query_key_value",
                layers=(f"{attention}.dense",),
                channels=values,
            ),
            ScaledInput(
                before=f"{path}.post_attention_layernorm", layers=(f"{inner}.dense_h_to_4h",)
            ),
        ]
        if self.config.text_config.hidden_act == "relu2":
            # A squared rectifier: what goes in scaled comes out scaled by the square.
            found.append(
                ScaledInput(
                    before=f"{inner}.dense_h_to_4h", layers=(f"{inner}.dense_4h_to_h",), power=2
                )
            )
        return found

    def embed(self, network: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        embeddings: Tensor = network.get_submodule(self.parts.vision)(inputs["pixel_values"])
        return embeddings

    def tower(self, network: Any) -> LinearTower:
        return LinearTower(network.get_submodule(self.parts.vision))

    def stand_ins(self, dtype: torch.dtype) -> dict[str, nn.Module | Tensor]:
        return {self.parts.vision: nn.Identity()}
