"""What stands in the place of a vision part when the embeddings of the pictures are there already.

A network whose vision part is a stand-in is given the embeddings where it would get the pixels.
Everything behind it, positions, masks and the library's `generate` among it, stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling


class HandsOn(nn.Module):
    """Returns what it is given as what a vision part would have made of it."""

    def __init__(self, *, dtype: torch.dtype, **facts: Any) -> None:
        super().__init__()
        self.dtype, self.facts = dtype, facts
        for name, value in facts.items():
            setattr(self, name, value)

    def forward(self, given: Tensor | None = None, **named: Any) -> BaseModelOutputWithPooling:
        embeddings = named["pixel_values"] if given is None else given
        return BaseModelOutputWithPooling(last_hidden_state=embeddings, pooler_output=embeddings)


class HandsOnLayers(HandsOn):
    """The same where a caller picks a layer, and leaves out so many tokens at its start."""

    layers: int
    left_out: int

    def forward(self, given: Tensor | None = None, **named: Any) -> BaseModelOutputWithPooling:
        embeddings = named["pixel_values"] if given is None else given
        states = nn.functional.pad(embeddings, (0, 0, self.left_out, 0))
        return BaseModelOutputWithPooling(
            last_hidden_state=states, hidden_states=(states,) * (self.layers + 1)
        )


class HandsOnSeen(nn.Module):
    """Returns what it was to look at."""

    def forward(self, *, encoder_hidden_states: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        return BaseModelOutputWithPooling(last_hidden_state=encoder_hidden_states)


class InFront(nn.Module):
    """A module in the place of a vision part, which hands what it made to the part's stand-in.

    What callers look up on the vision part is on its stand-in as well.
    """

    def __init__(self, stand_in: Any) -> None:
        super().__init__()
        self.stand_in = stand_in

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("stand_in"), name)


def describe_stand_ins(stand_ins: Mapping[str, nn.Module | Tensor]) -> dict[str, dict[str, Any]]:
    """Stand-ins as plain values, so that a file can say what to put where."""
    return {
        path: {
            "kind": type(stand_in).__name__,
            "facts": dict(stand_in.facts) if isinstance(stand_in, HandsOn) else {},
        }
        for path, stand_in in stand_ins.items()
    }


def read_stand_ins(
    described: Mapping[str, Mapping[str, Any]], dtype: torch.dtype
) -> dict[str, nn.Module | Tensor]:
    made: dict[str, nn.Module | Tensor] = {}
    for path, item in described.items():
        if item["kind"] == "Tensor":
            made[path] = torch.empty(1, 0, 0)
        elif item["kind"] == "Identity":
            made[path] = nn.Identity()
        elif item["kind"] == "HandsOnSeen":
            made[path] = HandsOnSeen()
        else:
            kind = {"HandsOn": HandsOn, "HandsOnLayers": HandsOnLayers}[item["kind"]]
            made[path] = kind(dtype=dtype, **item["facts"])
    return made
