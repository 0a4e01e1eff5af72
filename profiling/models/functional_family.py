"""What the functions of a family are, and a whole model made of them.

A family's `functional.py` ends in `FUNCTIONS = FunctionalFamily(...)`. Its functions are plain:
weights, configuration and inputs are arguments, so they can be read, replaced and compiled alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy

from profiling.errors import Unsupported
from profiling.models.array_functions import Array, Config, Weights, place_like
from profiling.models.greedy import Rules, State, decode

Inputs = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class FunctionalFamily:
    """The functions of a family, in the order in which the data goes through them."""

    # Values of the configuration that the functions take for granted, by place with dots.
    assumed: Mapping[str, tuple[Any, ...]]
    # What of the pictures' sizes must be known before anything is computed; constant under `jit`.
    sizes: Callable[[Inputs], Hashable]
    # What follows from the tokens alone, in NumPy: `ids`, `real`, `source`, …
    plan: Callable[[Inputs, Config], dict[str, numpy.ndarray]]
    # Pixels, sizes, weights, configuration: the vision part's states.
    vision: Callable[[Array, Any, Weights, Config], Array]
    # For each picture, its rows of the pixels and its sizes; None where pictures need no parting.
    pictures: Callable[[Any], list[tuple[slice, Any]]] | None
    # Those states as visual tokens [V, D]; None where there is no projector.
    project: Callable[[Array, Weights, Config], Array] | None
    # The plan, visual tokens, weights, configuration and room for tokens: logits and a state.
    prefill: Callable[[Mapping[str, Array], Array, Weights, Config, int], tuple[Array, State]]
    # A token of each row, the state, weights and configuration: logits and the next state.
    step: Callable[[Array, Mapping[str, Any], Weights, Config], tuple[Array, State]]
    # Whether the prompt has an encoder of its own, so that decoding begins with an empty cache.
    encoder_decoder: bool = False

    def check(self, config: Config) -> None:
        """Refuse a configuration that the functions would get wrong."""
        for place, allowed in self.assumed.items():
            value = config_at(config, place)
            if value not in allowed:
                listed = ", ".join(str(each) for each in allowed)
                raise Unsupported(f"config.json has {place}={value}; the functions know {listed}")

    def see(self, pixels: Array, sizes: Any, weights: Weights, config: Config) -> Array:
        """Visual tokens [V, D] of pixels."""
        states = self.vision(pixels, sizes, weights, config)
        return states if self.project is None else self.project(states, weights, config)

    def room(self, prompt: int, length: int) -> int:
        """How many tokens a cache has to hold for so many new ones."""
        return 1 + length if self.encoder_decoder else prompt + length

    def generate(
        self,
        inputs: Inputs,
        weights: Weights,
        config: Config,
        *,
        length: int,
        rules: Rules,
        exact: bool = False,
    ) -> numpy.ndarray:
        """New tokens [B, n] of a batch; the library of the pixels is the one that computes."""
        pixels = inputs["pixel_values"]
        host = self.plan(inputs, config)
        given = {name: place_like(value, pixels) for name, value in host.items()}
        pictures = self.see(pixels, self.sizes(inputs), weights, config)
        room = self.room(host["ids"].shape[1], length)
        logits, state = self.prefill(given, pictures, weights, config, room)
        return decode(
            logits,
            state,
            lambda token, state: self.step(token, state, weights, config),
            length=length,
            rules=rules,
            exact=exact,
            history=host["history"],
        )


def find_functions(family: str) -> FunctionalFamily:
    """The functions of the family of that name; Unsupported where it has none."""
    room = f"profiling.models.{family}"
    if find_spec(room) is None or find_spec(f"{room}.functional") is None:
        raise Unsupported(f"model={family} has not been written as plain functions")
    functions: FunctionalFamily = import_module(f"{room}.functional").FUNCTIONS
    return functions


def config_at(config: Config, place: str) -> Any:
    """The value at a place with dots; None where there is none."""
    value: Any = config
    for step in place.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value
