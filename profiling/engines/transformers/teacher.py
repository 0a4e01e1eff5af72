"""How likely a model finds an answer that it is given token by token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from profiling.models.model import Model


class Teacher(LogitsProcessor):  # type: ignore[misc]
    """Has generate choose the tokens of a reference, whatever the network would have chosen."""

    def __init__(self, references: Sequence[Sequence[int]]) -> None:
        self._references = references
        self._step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # [B, S], [B, V] -> [B, V]
        step = self._step
        self._step += 1
        taught = [ids[min(step, len(ids) - 1)] for ids in self._references]
        forced = torch.full_like(scores, -math.inf)
        forced[range(len(taught)), taught] = 0
        return forced


def reference_ids(model: Model, reference: str) -> list[int]:
    """The reference as its tokenizer writes it alone, and the token by which answers end."""
    ids = model.family.processing.tokenizer(
        model.family.processing.escape_special_tokens(reference), add_special_tokens=False
    )
    ends = model.network.generation_config.eos_token_id
    listed = [ends] if isinstance(ends, int) else list(ends or [])
    return [*ids["input_ids"], *listed[:1]]


def reference_nlls(
    model: Model,
    inputs: Mapping[str, Tensor],
    references: Sequence[str],
    *,
    side: int | None,
    length: int,
    **options: Any,
) -> list[float | None]:
    """Mean negative log-likelihood a token of each reference, in nats, its end token counted."""
    taught = [reference_ids(model, reference) for reference in references]
    steps = teach(model, inputs, taught, side=side, length=length, **options)
    spent = [_nats(logits, taught, step) for step, logits in enumerate(steps)]
    return [
        _mean(row[: len(ids)]) for row, ids in zip(zip(*spent, strict=True), taught, strict=True)
    ]


def teach(
    model: Model,
    inputs: Mapping[str, Tensor],
    taught: Sequence[Sequence[int]],
    *,
    side: int | None,
    length: int,
    **options: Any,
) -> Sequence[Tensor]:
    """The logits [B, V] of each step of a generation that has to choose these tokens.

    The library's own generate is what runs, so that a change to it is seen here as well. `length`
    is that of the answers: a cache that was laid out for them serves here too.
    """
    longest = max(map(len, taught))
    with torch.inference_mode():
        generated = model.network.generate(
            **inputs,
            **({} if side is None else model.family.layout.generate_options(side)),
            **options,
            logits_processor=LogitsProcessorList([Teacher(taught)]),
            max_new_tokens=max(length, longest),
            do_sample=False,
            # Before anything that a checkpoint has its scores changed by.
            output_logits=True,
            return_dict_in_generate=True,
        )
    steps: Sequence[Tensor] = generated.logits[:longest]
    return steps


def by_row(steps: Sequence[Tensor], taught: Sequence[Sequence[int]]) -> list[numpy.ndarray]:
    """Logits by step as those [T, V] of each row at its own tokens."""
    held = [logits.float().cpu().numpy() for logits in steps]
    return [
        numpy.stack([logits[row] for logits in held[: len(ids)]]) for row, ids in enumerate(taught)
    ]


def _nats(logits: Tensor, taught: Sequence[Sequence[int]], step: int) -> list[float]:
    """What each row's token at that step costs; of no meaning where the row has ended."""
    ids = [row[min(step, len(row) - 1)] for row in taught]
    chosen = torch.tensor(ids, device=logits.device)[:, None]
    return (-torch.log_softmax(logits.float(), dim=-1).gather(1, chosen)[:, 0]).tolist()  # type: ignore[no-any-return]


def _mean(nats: Sequence[float]) -> float | None:
    """None where the network gave no numbers."""
    total = math.fsum(nats)
    return total / len(nats) if math.isfinite(total) else None
