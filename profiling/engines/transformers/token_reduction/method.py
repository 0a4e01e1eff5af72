"""What a method of token reduction is: it chooses which visual tokens of a prompt are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar

from torch import Tensor

from profiling.engines.transformers.token_reduction.prompt import Prompt
from profiling.models.family import Family


class Method(ABC):
    """One file in `methods/`, which ends in `METHOD = <class>`."""

    # The decoder layer before which it drops, where none is asked for; 0: before the decoder.
    default_layer: ClassVar[int] = 0
    # Whether it needs the attention of the vision encoder.
    needs_encoder: ClassVar[bool] = False

    def __init__(self, *, seed: int, layer: int) -> None:
        self.seed, self.layer = seed, layer

    def watch(self, network: Any, family: Family) -> None:  # noqa: B027
        """Prepare a loaded network for what the method looks at."""

    def start(self, prompt: Prompt) -> None:  # noqa: B027
        """A new prompt is about to be encoded."""

    @abstractmethod
    def choose(self, prompt: Prompt, row: int, tokens: Tensor, count: int) -> Tensor:
        """The sorted numbers of `count` visual tokens of a row, of states [visual tokens, D]."""

    def merge(self, prompt: Prompt, row: int, tokens: Tensor, chosen: Tensor) -> Tensor:
        """The states of the chosen tokens [count, D], as they go on."""
        return tokens[chosen]


def find_method(name: str) -> type[Method]:
    found: type[Method] = import_module(f"{__package__}.methods.{name}").METHOD
    return found


def without(chosen: Tensor, length: int) -> Tensor:
    """The numbers below `length` that were not chosen."""
    left: Sequence[int] = sorted(set(range(length)) - set(chosen.tolist()))
    return chosen.new_tensor(left)
