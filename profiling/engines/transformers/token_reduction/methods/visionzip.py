"""Dominant visual tokens, and merged ones (after VisionZip, Yang et al., CVPR 2025)."""

from __future__ import annotations

import torch
from torch import Tensor

from profiling.engines.transformers.token_reduction.encoder_method import (
    EncoderMethod,
    most_alike,
)
from profiling.engines.transformers.token_reduction.method import without
from profiling.engines.transformers.token_reduction.prompt import Prompt

# Of the tokens that are kept: 10 of 64 in the paper.
_MERGED_SHARE = 10 / 64


class VisionZip(EncoderMethod):
    """Most are kept by their score; some, evenly placed among the rest, take in what is alike."""

    def choose(self, prompt: Prompt, row: int, tokens: Tensor, count: int) -> Tensor:
        merged = min(count - 1, round(_MERGED_SHARE * count))
        dominant = self.scores(prompt, row).topk(count - merged).indices
        rest = without(dominant, len(tokens))
        steps = torch.arange(merged, device=tokens.device)
        targets = rest[((steps + 0.5) * len(rest) / max(merged, 1)).long()]
        self._targets = targets
        return torch.cat([dominant, targets]).sort().values

    def merge(self, prompt: Prompt, row: int, tokens: Tensor, chosen: Tensor) -> Tensor:
        dropped = without(chosen, len(tokens))
        if not len(self._targets) or not len(dropped):
            return tokens[chosen]
        made = tokens.clone()
        nearest = most_alike(tokens[dropped], tokens[self._targets])
        for number, target in enumerate(self._targets):
            together = torch.cat([target[None], dropped[nearest == number]])
            made[target] = tokens[together].mean(dim=0)
        return made[chosen]


METHOD = VisionZip
