"""Visual tokens by score, with their nearest dropped ones (after PruMerge, Shang et al., 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from profiling.engines.transformers.token_reduction.encoder_method import (
    EncoderMethod,
    most_alike,
)
from profiling.engines.transformers.token_reduction.method import without
from profiling.engines.transformers.token_reduction.prompt import Prompt


class PruMerge(EncoderMethod):
    """Kept at a given ratio; dropped tokens are added to the nearest kept one by their scores."""

    def choose(self, prompt: Prompt, row: int, tokens: Tensor, count: int) -> Tensor:
        return self.scores(prompt, row).topk(count).indices.sort().values

    def merge(self, prompt: Prompt, row: int, tokens: Tensor, chosen: Tensor) -> Tensor:
        # In half precision the share of one of many thousand patches would be rounded to nothing.
        scores, states = self.scores(prompt, row), tokens.float()
        dropped = without(chosen, len(tokens))
        nearest = most_alike(tokens[dropped], tokens[chosen])
        made = tokens[chosen].clone()
        for number, place in enumerate(chosen):
            together = torch.cat([place[None], dropped[nearest == number]])
            share = scores[together] / scores[together].sum()
            made[number] = (share[:, None] * states[together]).sum(dim=0)
        return made


METHOD = PruMerge
