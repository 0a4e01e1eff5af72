"""Random visual tokens: the control that every method has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from profiling.engines.transformers.token_reduction.method import Method
from profiling.engines.transformers.token_reduction.prompt import Prompt


class Random(Method):
    """The same ones for a sample in whatever batch it is."""

    def choose(self, prompt: Prompt, row: int, tokens: Tensor, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(prompt.seed(row, self.seed))
        shuffled = torch.randperm(len(tokens), generator=generator)
        return shuffled[:count].sort().values.to(tokens.device)


METHOD = Random
