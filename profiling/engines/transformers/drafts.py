"""Tokens that are drafted and then checked by the model, several in one step.

The library's assisted loop is used as it is, with one change: nothing is drafted at the first step.
There the prompt is not prefilled yet, and drafted tokens would be taken for a part of it: some
families raise where an image token is among them, some answer other tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers.generation.candidate_generator import (
    _prepare_attention_mask,
    _prepare_position_ids,
    _prepare_token_type_ids,
)

from profiling.records import DERIVED, Reading, reading, unavailable

_SOURCE = "counted while every sample was answered once, up to its own end"


class DraftCounts:
    """Steps, and the tokens that they drafted and accepted."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.steps = self.tokens = self.drafted = self.accepted = 0

    def add(self, drafted: Sequence[int], new: Sequence[int]) -> None:
        """A step that drafted tokens, and the new tokens that came of it."""
        pairs = enumerate(zip(drafted, new, strict=False))
        whole = min(len(drafted), len(new))
        accepted = next((place for place, (draft, token) in pairs if draft != token), whole)
        self.steps += 1
        self.tokens += len(new)
        self.accepted += accepted
        # An answer that ended within the draft leaves the rest of it unjudged.
        self.drafted += accepted if accepted == len(new) else len(drafted)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Around passes that no user would make."""
        before = vars(self).copy()
        yield
        vars(self).update(before)

    def readings(self) -> Iterator[Reading]:
        row = partial(reading, status=DERIVED, source=_SOURCE)
        if self.drafted:
            yield row("acceptance_rate", value=self.accepted / self.drafted)
        else:
            yield unavailable("acceptance_rate", "no token was drafted")
        yield row("drafted_tokens", value=self.drafted)
        if self.steps:
            yield row("tokens_per_step", value=self.tokens / self.steps)
        else:
            yield unavailable("tokens_per_step", "every answer ended with the prefill")


def watch_drafts(generating: nn.Module, counts: DraftCounts) -> None:
    """Have each generation of a module draft nothing at its first step, and count the others."""
    holder: Any = generating
    make = holder._get_candidate_generator

    def watched(*args: Any, **kwargs: Any) -> Any:
        drafter = make(*args, **kwargs)
        _Watched(drafter, counts)
        return drafter

    holder._get_candidate_generator = watched


class _Watched:
    """Takes the place of two methods of one generation's drafter."""

    def __init__(self, drafter: Any, counts: DraftCounts) -> None:
        self._drafter = drafter
        self._draft, self._update = drafter.get_candidates, drafter.update_candidate_strategy
        self._counts, self._begun = counts, False
        self._length, self._drafted = 0, list[int]()
        drafter.get_candidates, drafter.update_candidate_strategy = self.draft, self.update

    def draft(self, input_ids: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        if not self._begun:
            return input_ids, None
        ids, logits = self._draft(input_ids, **kwargs)
        self._length = input_ids.shape[1]
        self._drafted = ids[0, self._length :].tolist()
        return ids, logits

    def update(self, input_ids: Tensor, scores: Tensor, num_matches: int) -> None:
        if not self._begun:
            self._begun = True
            _lengthen(self._drafter, input_ids.shape[1])
            return
        self._counts.add(self._drafted, input_ids[0, self._length :].tolist())
        self._update(input_ids, scores, num_matches)


def _lengthen(drafter: Any, length: int) -> None:
    """Masks and positions of an assistant's first call, which has the first new token already.

    The library lengthens them only for an assistant that has a cache.
    """
    inputs = getattr(drafter, "assistant_kwargs", None)
    if inputs is None:
        return
    for prepare in (_prepare_attention_mask, _prepare_position_ids):
        inputs = prepare(inputs, length, False)
    drafter.assistant_kwargs = _prepare_token_type_ids(inputs, length)
