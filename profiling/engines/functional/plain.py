"""The functions of a family with the weights of one model, called as they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import numpy
from torch import Tensor

from profiling.models import greedy
from profiling.models.array_functions import place_like
from profiling.models.functional_family import FunctionalFamily
from profiling.models.nested_weights import Nested
from profiling.records import Reading

Array = Any
State = dict[str, Any]


class PlainFunctions:
    """For NumPy and PyTorch, which compute when they are called."""

    def __init__(
        self,
        *,
        functions: FunctionalFamily,
        weights: Nested,
        config: Mapping[str, Any],
        convert: Callable[[Tensor], Array],
    ) -> None:
        self.functions, self.weights, self.config = functions, weights, config
        self.convert = convert

    # From tensors to logits

    def plan(self, inputs: Mapping[str, Any], padding: int) -> dict[str, numpy.ndarray]:
        """What follows from the tokens; `padding` fills where more tokens are asked for."""
        return self.functions.plan(inputs, self.config)

    def sizes(self, inputs: Mapping[str, Any]) -> Hashable:
        return self.functions.sizes(inputs)

    def room(self, planned: Mapping[str, numpy.ndarray], length: int) -> int:
        return self.functions.room(planned["ids"].shape[1], length)

    def vision(self, pixels: Array, sizes: Hashable) -> Array:
        return self.functions.vision(pixels, sizes, self.weights, self.config)

    def project(self, states: Array) -> Array:
        assert self.functions.project is not None
        return self.functions.project(states, self.weights, self.config)

    def prefill(
        self, planned: Mapping[str, numpy.ndarray], pictures: Array, room: int
    ) -> tuple[Array, State]:
        given = {name: place_like(value, pictures) for name, value in planned.items()}
        return self.functions.prefill(given, pictures, self.weights, self.config, room)

    def step(self, token: Array, state: State) -> tuple[Array, State]:
        return self.functions.step(token, state, self.weights, self.config)

    def choose(self, *arguments: Any) -> Array:
        return greedy.choose(*arguments)

    def wait(self, computed: Any) -> None:
        """Until something has been computed, where the clock does not do so."""

    # What compiling takes, where there is any

    compiles = False

    def lay_out(self, length: int) -> None:
        """Make every cache long enough for so many new tokens."""

    def begin_measuring(self) -> None:
        """What is compiled from here on is compiled while measuring."""

    def readings(self) -> Iterator[Reading]:
        return iter(())
