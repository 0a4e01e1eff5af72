"""Drops visual tokens while a prompt is prefilled; generate stays the library's.

The call of the decoder is rewritten, or those of its layers from some layer on. Both are wrapped
calls and not hooks, so that choosing counts as prefill. Embeddings, positions and masks are
gathered from the whole prompt, and the library makes its cache of what it gets: positions stay
those of the whole prompt, on all axes, and later tokens count on from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from profiling.engines.transformers.token_reduction.gathering import (
    Columns,
    gather_positions,
    gather_states,
    select_columns,
)
from profiling.engines.transformers.token_reduction.method import Method
from profiling.engines.transformers.token_reduction.prompt import Prompt
from profiling.models.family import Family

_CACHE = "past_key_values"


def count_kept(visual_tokens: int, keep: float) -> int:
    """How many visual tokens of a prompt are kept; at least one, where there is one."""
    return min(visual_tokens, max(1, round(keep * visual_tokens)))


class Reducer:
    """Rewrites the calls of one network's decoder."""

    def __init__(
        self, *, network: Any, family: Family, method: Method, keep: float, layer: int
    ) -> None:
        self.method, self.keep, self.layer = method, keep, layer
        self._image_token_id = family.processing.image_token_id
        self._decoder = network.get_submodule(family.layout.decoder)
        self._prompt: Prompt | None = None
        self._columns: Columns | None = None
        self.forget()
        method.watch(network, family)
        _precede(network, self._start)
        if layer == 0:
            _wrap(self._decoder, self._rewrite_decoder)
        else:
            for index, module in enumerate(self._decoder.layers):
                if index >= layer:
                    _wrap(module, self._rewrite_layer(index))

    # Counting

    def forget(self) -> None:
        self.kept: list[int] = []

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Around passes that no user would make."""
        before = self.kept
        yield
        self.kept = before

    # Choosing

    def _start(self, inputs: Mapping[str, Any]) -> None:
        """A generation begins; the library encodes the pictures before it calls the network."""
        self._prompt = Prompt(inputs=inputs, image_token_id=self._image_token_id)
        self._columns = None
        self.method.start(self._prompt)

    def _choose(self, states: Tensor) -> Tensor:  # [B, S, D] -> [B, L, D]
        """Decide what goes on, and hand it on."""
        prompt = self._prompt
        assert prompt is not None, "the decoder was called outside of generate"
        kept, states = prompt.real.clone(), states.clone()
        for row in range(len(states)):
            places = prompt.places(row)
            count = count_kept(len(places), self.keep)
            if count < len(places):
                tokens = states[row, places]
                chosen = self.method.choose(prompt, row, tokens, count)
                kept[row, places] = False
                kept[row, places[chosen]] = True
                states[row, places[chosen]] = self.method.merge(prompt, row, tokens, chosen)
        self.kept = [*self.kept, *(kept & prompt.visual).sum(dim=1).tolist()]
        self._columns = select_columns(kept)
        return gather_states(states, self._columns.order)

    def _valid(self, length: int) -> Tensor | None:
        """[B, length]: what is kept of the prompt and all behind it; None where all is valid."""
        assert self._columns is not None
        valid = self._columns.valid
        if bool(valid.all()):
            return None
        return nn.functional.pad(valid, (0, length - valid.shape[1]), value=True)

    # Before the decoder

    def _rewrite_decoder(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        seen = kwargs[_CACHE].get_seq_length()
        if seen == 0:
            kwargs["inputs_embeds"] = self._choose(kwargs["inputs_embeds"])
            assert self._columns is not None
            if kwargs.get("position_ids") is not None:
                kwargs["position_ids"] = gather_positions(
                    kwargs["position_ids"], self._columns.order
                )
        valid = self._valid(seen + kwargs["inputs_embeds"].shape[1])
        kwargs["attention_mask"] = None if valid is None else valid.long()
        return args

    # Within the decoder

    def _rewrite_layer(self, index: int) -> _Rewrite:
        def rewrite(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
            (states, *rest), seen = args, kwargs[_CACHE].get_seq_length(index)
            if seen == 0:
                if index == self.layer:
                    states = self._choose(states)
                assert self._columns is not None
                order = self._columns.order
                kwargs["position_embeddings"] = tuple(
                    gather_states(one, order) for one in kwargs["position_embeddings"]
                )
                if kwargs.get("position_ids") is not None:
                    kwargs["position_ids"] = gather_positions(kwargs["position_ids"], order)
            kwargs["attention_mask"] = self._mask(states, seen)
            return (states, *rest)

        return rewrite

    def _mask(self, states: Tensor, seen: int) -> Tensor | None:
        """The mask of a layer whose cache is shorter than those before it."""
        rows, length = states.shape[1], seen + states.shape[1]
        valid, kernel = self._valid(length), self._decoder.config._attn_implementation
        if "flash" in kernel:
            return valid
        if valid is None and kernel == "sdpa" and (rows == 1 or seen == 0):
            return None
        places = torch.arange(length, device=states.device)
        allowed = (places[None, :] <= places[seen:, None])[None, None]
        if valid is not None:
            allowed = allowed & valid[:, None, None, :]
            # A filler that attended to nothing would become NaN.
            allowed = allowed | (places[None, :] == places[seen:, None])
        if kernel == "sdpa":
            return allowed.expand(len(states), -1, -1, -1)
        least = torch.finfo(states.dtype).min
        return torch.zeros_like(allowed, dtype=states.dtype).masked_fill(~allowed, least)


_Rewrite = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, ...]]


def _precede(network: Any, start: Callable[[Mapping[str, Any]], None]) -> None:
    """Have every generation begin with a look at its inputs."""
    whole = network.generate

    def generate(*args: Any, **kwargs: Any) -> Any:
        start(kwargs)
        return whole(*args, **kwargs)

    network.generate = generate


def _wrap(module: nn.Module, rewrite: _Rewrite) -> None:
    """Every call of the module with rewritten arguments."""
    whole = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        rewritten = rewrite(args, kwargs)
        return whole(*rewritten, **kwargs)

    module.forward = forward
