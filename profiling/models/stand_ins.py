"""Stand-ins: what replaces a vision part when the embeddings of the pictures exist already.

A network whose vision part is a stand-in takes embeddings where it took pixels. Everything after
the vision part (positions, masks, the library's `generate`) stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling


class PassThrough(nn.Module):
    """Returns its input in the form of a vision part's output."""

    def __init__(self, *, dtype: torch.dtype, **facts: Any) -> None:
        super().__init__()
        self.dtype, self.facts = dtype, facts
        for name, value in facts.items():
            setattr(self, name, value)

    def forward(self, given: Tensor | None = None, **named: Any) -> BaseModelOutputWithPooling:
        embeddings = named["pixel_values"] if given is None else given
        return BaseModelOutputWithPooling(last_hidden_state=embeddings, pooler_output=embeddings)


class PassThroughLayers(PassThrough):
    """For a caller that selects a layer's output and drops `left_out` tokens at its start."""

    layers: int
    left_out: int

    def forward(self, given: Tensor | None = None, **named: Any) -> BaseModelOutputWithPooling:
        embeddings = named["pixel_values"] if given is None else given
        states = nn.functional.pad(embeddings, (0, 0, self.left_out, 0))
        return BaseModelOutputWithPooling(
            last_hidden_state=states, hidden_states=(states,) * (self.layers + 1)
        )


class PassThroughAttended(nn.Module):
    """Returns the states that it would attend to."""

    def forward(self, *, encoder_hidden_states: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        return BaseModelOutputWithPooling(last_hidden_state=encoder_hidden_states)


class VisionReplacement(nn.Module):
    """Base of modules that replace a vision part and pass their embeddings to its stand-in.

    Attributes that callers read from the vision part are found on the stand-in.
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
    """Stand-ins as plain values that can be stored in a file."""
    return {
        path: {
            "kind": type(stand_in).__name__,
            "facts": dict(stand_in.facts) if isinstance(stand_in, PassThrough) else {},
        }
        for path, stand_in in stand_ins.items()
    }


def read_stand_ins(
    described: Mapping[str, Mapping[str, Any]], dtype: torch.dtype
) -> dict[str, nn.Module | Tensor]:
    """Stand-ins from what `describe_stand_ins` wrote."""
    made: dict[str, nn.Module | Tensor] = {}
    for path, item in described.items():
        if item["kind"] == "Tensor":
            made[path] = torch.empty(1, 0, 0)
        elif item["kind"] == "Identity":
            made[path] = nn.Identity()
        elif item["kind"] == "PassThroughAttended":
            made[path] = PassThroughAttended()
        else:
            classes = {"PassThrough": PassThrough, "PassThroughLayers": PassThroughLayers}
            made[path] = classes[item["kind"]](dtype=dtype, **item["facts"])
    return made
