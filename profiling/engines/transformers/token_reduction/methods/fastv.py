"""Visual tokens by what the last token attends to (FastV, Chen et al., ECCV 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from profiling.engines.transformers.token_reduction.method import Method
from profiling.engines.transformers.token_reduction.prompt import Prompt
from profiling.models.attention_tap import tap_attention
from profiling.models.family import Family


class FastV(Method):
    """The attention of the layer before the one at which tokens are dropped, over all heads."""

    default_layer = 2

    def watch(self, network: Any, family: Family) -> None:
        decoder = network.get_submodule(family.layout.decoder)
        tap_attention(decoder.layers[self.layer - 1].self_attn, self._look)

    def start(self, prompt: Prompt) -> None:
        self._real = prompt.real

    def _look(self, query: Tensor, key: Tensor, scaling: float) -> None:
        """At a prefill: only the row of the last token is computed."""
        if query.shape[2] != key.shape[2] or query.shape[2] != self._real.shape[1]:
            return
        # Before they are scaled, products may exceed what half precision holds.
        keys = key.float().repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        scores = (query[:, :, -1:].float() @ keys.transpose(-1, -2) * scaling)[:, :, 0]
        scores = scores.masked_fill(~self._real[:, None], -torch.inf)
        self._scores = scores.softmax(dim=-1).mean(dim=1)  # [B, S]

    def choose(self, prompt: Prompt, row: int, tokens: Tensor, count: int) -> Tensor:
        return self._scores[row][prompt.visual[row]].topk(count).indices.sort().values


METHOD = FastV
