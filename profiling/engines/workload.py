"""A batch taken through a model exactly as people run it: what every probe measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from profiling.engines.transformers.hooks import (
    Clock,
    PhaseHooks,
    Timing,
    Trace,
    clock_for,
    token_marks,
)
from profiling.models.model import Model, Prepared
from profiling.samples.samples import Sample


class Workload:
    """Full batches of a point's samples, generated at exactly the point's length."""

    def __init__(
        self,
        *,
        model: Model,
        batches: Sequence[Sequence[Sample]],
        img_size: int,
        prompt_len: int | None,
        max_new_tokens: int,
        preload: bool,
    ) -> None:
        self.model = model
        self.batches = [list(batch) for batch in batches]
        self.batch_size = len(self.batches[0])
        self.img_size = img_size
        self.prompt_len = prompt_len
        self.max_new_tokens = max_new_tokens
        self._kept = [self._prepare(b) for b in self.batches] if preload else None

    def _prepare(self, batch: Sequence[Sample]) -> list[Prepared]:
        return [self.model.prepare(sample, self.prompt_len) for sample in batch]

    def prepared(self, index: int) -> list[Prepared]:
        """A batch as the processor takes it: from memory, or read as it comes."""
        position = index % len(self.batches)
        return self._kept[position] if self._kept else self._prepare(self.batches[position])

    def encode(self, index: int) -> dict[str, Tensor]:
        """The tensors of a batch, on the CPU."""
        return self.model.encode(self.prepared(index), self.img_size)

    def run(self, index: int, *, max_new_tokens: int | None = None) -> Tensor:
        """One whole pass: preprocess, transfer, generate."""
        self._begin(index)
        return self._generate(self.model.place(self.encode(index)), max_new_tokens)

    def new_clock(self) -> Clock:
        return clock_for(self.model.device)

    def run_timed(self, index: int, hooks: PhaseHooks) -> Timing:
        """The same pass with its moments marked."""
        self._begin(index)
        clock = self.new_clock()
        trace = Trace(clock=clock)
        hooks.follow(trace)
        begun = clock.mark()
        with trace.span("preprocess"):
            inputs = self.encode(index)
        with trace.span("transfer"):
            inputs = self.model.place(inputs)
        self._generate(inputs, None, stopping_criteria=token_marks(trace))
        ended = clock.mark()
        hooks.follow(None)
        hooks.check(trace)
        clock.settle()
        return trace.timing(begun, ended, hooks.expected)

    def _begin(self, index: int) -> None:
        if index % len(self.batches) == 0:
            self.model.begin_pass()

    def _generate(
        self, inputs: dict[str, Tensor], max_new_tokens: int | None, **options: Any
    ) -> Tensor:
        length = max_new_tokens or self.max_new_tokens
        return self.model.generate(inputs, side=self.img_size, length=length, exact=True, **options)
