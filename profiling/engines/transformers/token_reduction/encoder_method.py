"""Methods that go by the attention of the vision encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from profiling.engines.transformers.token_reduction.method import Method
from profiling.engines.transformers.token_reduction.prompt import Prompt
from profiling.models.family import Family


class EncoderMethod(Method):
    """Scores of each visual token, made while the picture is encoded."""

    needs_encoder = True

    def watch(self, network: Any, family: Family) -> None:
        self._reader = family.layout.read_encoder(network)

    def start(self, prompt: Prompt) -> None:
        self._reader.start()
        self._rows: list[Tensor] = []

    def scores(self, prompt: Prompt, row: int) -> Tensor:
        """The scores of a row's visual tokens."""
        if not self._rows:
            together = torch.cat(self._reader.by_picture(prompt.inputs))
            self._rows = list(together.split(prompt.visual.sum(dim=1).tolist()))
        return self._rows[row]


def most_alike(tokens: Tensor, others: Tensor) -> Tensor:  # [N, D], [M, D] -> [N]
    """For each token the one of the others with the largest cosine similarity."""
    unit, other_unit = (nn.functional.normalize(one.float(), dim=-1) for one in (tokens, others))
    return (unit @ other_unit.T).argmax(dim=1)
