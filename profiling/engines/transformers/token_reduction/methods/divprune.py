"""Visual tokens that differ most from one another (DivPrune, Alvar et al., CVPR 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from profiling.engines.transformers.token_reduction.method import Method
from profiling.engines.transformers.token_reduction.prompt import Prompt


class DivPrune(Method):
    """Each next one has the largest cosine distance to the nearest one that is chosen."""

    def choose(self, prompt: Prompt, row: int, tokens: Tensor, count: int) -> Tensor:
        unit = nn.functional.normalize(tokens.float(), dim=-1)
        distance = 1 - unit @ unit.T
        others = distance.clone().fill_diagonal_(torch.inf)
        chosen = [int(others.min(dim=1).values.argmax())]
        nearest = distance[chosen[0]].clone()
        for _ in range(count - 1):
            nearest[chosen[-1]] = -torch.inf
            chosen.append(int(nearest.argmax()))
            nearest = nearest.minimum(distance[chosen[-1]])
        return torch.tensor(sorted(chosen), device=tokens.device)


METHOD = DivPrune
