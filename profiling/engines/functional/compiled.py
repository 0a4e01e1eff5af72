"""The functions of a family compiled by JAX, for lengths that are rounded up."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy

from profiling.engines.functional.plain import Array, PlainFunctions, State
from profiling.models import greedy
from profiling.records import MEASURED, Reading, reading
from profiling.runtimes.native.jax_process import Compilations


class CompiledFunctions(PlainFunctions):
    """Each function is compiled for every shape that it meets; similar lengths share one shape.

    Prompts are padded and caches are laid out to a multiple of so many tokens, and there are as
    many places for visual tokens. Pictures of different sizes are seen one after another: together
    they would need code for every combination of sizes.
    """

    def __init__(self, *, length_multiple: int, **given: Any) -> None:
        super().__init__(**given)
        self.length_multiple = length_multiple
        self.compilations = Compilations()
        self._longest = 0  # how many new tokens every cache has room for
        self._before_measuring = (0, 0.0)
        self._vision = self._compile(self._see, static=(2,))
        self._project = self._compile(self._merge)
        self._insert = self._compile(self._put, donated=(0,))
        self._prefill = self._compile(self._begin, static=(3,))
        # The state before a step is used up by it, so its memory serves the state after it.
        self._step = self._compile(self._go_on, donated=(1,))
        self._choose = self._compile(greedy.choose, static=(3,))

    def _compile(
        self,
        function: Callable[..., Any],
        *,
        static: tuple[int, ...] = (),
        donated: tuple[int, ...] = (),
    ) -> Callable[..., Any]:
        counted = self.compilations.counted(function)
        compiled: Callable[..., Any] = jax.jit(
            counted, static_argnums=static, donate_argnums=donated
        )
        return compiled

    # What is compiled: weights are an argument, or they would be copied into the code

    def _see(self, pixels: Array, weights: Any, sizes: Hashable) -> Array:
        return self.functions.vision(pixels, sizes, weights, self.config)

    def _merge(self, states: Array, weights: Any) -> Array:
        assert self.functions.project is not None
        return self.functions.project(states, weights, self.config)

    def _put(self, places: Array, tokens: Array, start: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(places, tokens, start, axis=0)

    def _begin(
        self, given: Mapping[str, Array], pictures: Array, weights: Any, room: int
    ) -> tuple[Array, State]:
        return self.functions.prefill(given, pictures, weights, self.config, room)

    def _go_on(self, token: Array, state: State, weights: Any) -> tuple[Array, State]:
        return self.functions.step(token, state, weights, self.config)

    # What is called

    def plan(self, inputs: Mapping[str, Any], padding: int) -> dict[str, numpy.ndarray]:
        ids, mask = numpy.asarray(inputs["input_ids"]), numpy.asarray(inputs["attention_mask"])
        more = self._rounded(ids.shape[1]) - ids.shape[1]
        at_end = self.functions.encoder_decoder
        width = ((0, 0), (0, more) if at_end else (more, 0))
        padded = {
            "input_ids": numpy.pad(ids, width, constant_values=padding),
            "attention_mask": numpy.pad(mask, width),
        }
        planned = super().plan({**inputs, **padded}, padding)
        if not at_end:
            # The tokens that were added are none that a repetition penalty should count.
            planned["history"] = planned["history"][:, more:]
        return planned

    def room(self, planned: Mapping[str, numpy.ndarray], length: int) -> int:
        return self._rounded(super().room(planned, max(length, self._longest)))

    def _rounded(self, length: int) -> int:
        return -(-length // self.length_multiple) * self.length_multiple

    def vision(self, pixels: Array, sizes: Hashable) -> Any:
        parts = [(slice(None), sizes)]
        if self.functions.pictures is not None:
            parts = self.functions.pictures(sizes)
        seen = [self._vision(pixels[rows], self.weights, size) for rows, size in parts]
        return seen if self.functions.project else self._fill(seen)

    def project(self, states: Any) -> Array:
        return self._fill([self._project(each, self.weights) for each in states])

    def _fill(self, tokens: Sequence[Array]) -> Array:
        """Visual tokens [V, D] of all pictures, and rows that no prompt takes a token from."""
        count, (width,) = sum(map(len, tokens)), {each.shape[1] for each in tokens}
        places, start = jnp.zeros((self._rounded(count), width), tokens[0].dtype), 0
        for each in tokens:
            places = self._insert(places, each, start)
            start += len(each)
        return places

    def prefill(
        self, planned: Mapping[str, numpy.ndarray], pictures: Array, room: int
    ) -> tuple[Array, State]:
        given = {name: value for name, value in planned.items() if name != "history"}
        logits, state = self._prefill(given, pictures, self.weights, room)
        return logits, state

    def step(self, token: Array, state: State) -> tuple[Array, State]:
        logits, state = self._step(token, state, self.weights)
        return logits, state

    def choose(self, *arguments: Any) -> Array:
        return self._choose(*arguments)

    def wait(self, computed: Any) -> None:
        jax.block_until_ready(computed)

    # What compiling takes

    compiles = True

    def lay_out(self, length: int) -> None:
        self._longest = max(self._longest, length)

    def begin_measuring(self) -> None:
        self._before_measuring = (self.compilations.count, self.compilations.seconds)

    def readings(self) -> Iterator[Reading]:
        count, seconds = self._before_measuring
        yield reading(
            metric="compile_s",
            value=seconds,
            status=MEASURED,
            source="jax.monitoring: tracing, lowering and compiling before measuring",
        )
        source = "counted whenever JAX traces one of the functions"
        yield reading(metric="num_compilations", value=count, status=MEASURED, source=source)
        yield reading(
            metric="num_recompilations",
            value=self.compilations.count - count,
            status=MEASURED,
            source=f"{source}, after measuring had begun",
        )
