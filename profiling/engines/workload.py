"""A batch taken through an engine exactly as people run it: what every probe measures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from profiling.engines.engine import Engine
from profiling.engines.trace import Timing, Trace
from profiling.samples.samples import Sample


class Workload:
    """Full batches of a point's samples, generated at exactly the point's length."""

    def __init__(
        self,
        *,
        engine: Engine,
        batches: Sequence[Sequence[Sample]],
        img_size: int | None,
        prompt_len: int | None,
        max_new_tokens: int,
        preload: bool,
    ) -> None:
        self.engine = engine
        self.batches = [list(batch) for batch in batches]
        self.batch_size = len(self.batches[0])
        self.img_size = img_size
        self.prompt_len = prompt_len
        self.max_new_tokens = max_new_tokens
        self._kept = [self._prepare(batch) for batch in self.batches] if preload else None

    def _prepare(self, batch: Sequence[Sample]) -> Any:
        return self.engine.prepare(batch, self.prompt_len)

    def encode(self, index: int) -> Any:
        """The inputs of a batch, prepared before or read as it comes."""
        position = index % len(self.batches)
        batch = self._kept[position] if self._kept else self._prepare(self.batches[position])
        return self.engine.encode(batch, self.img_size)

    def run(self, index: int, *, max_new_tokens: int | None = None) -> None:
        """One whole pass: preprocess, transfer, generate."""
        inputs = self.engine.place(self.encode(index))
        self._generate(inputs, max_new_tokens or self.max_new_tokens, None)

    def run_timed(self, index: int) -> Timing:
        """The same pass with its moments marked."""
        clock = self.engine.clock()
        trace = Trace(clock=clock)
        begun = clock.mark()
        with trace.span("preprocess"):
            inputs = self.encode(index)
        with trace.span("transfer"):
            inputs = self.engine.place(inputs)
        self._generate(inputs, self.max_new_tokens, trace)
        ended = clock.mark()
        clock.settle()
        return trace.timing(begun, ended, self.engine.blind)

    def _generate(self, inputs: Any, length: int, trace: Trace | None) -> None:
        self.engine.generate(inputs, length=length, exact=True, trace=trace)


class Rotation:
    """All batches in a shuffled order, cycle after cycle.

    The order is the same in every rotation of as many batches, so that the first few are a fair
    sample of all and no probe meets others than the next. The engine begins a pass at the first
    position of each cycle, whichever batch is there.
    """

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        count = len(workload.batches)
        self._order = random.Random(0).sample(range(count), count)
        self._passes = 0

    def __len__(self) -> int:
        """How many batches a cycle has."""
        return len(self._order)

    def next_batch(self) -> int:
        """The batch whose turn it is."""
        position = self._passes % len(self)
        if position == 0:
            self._workload.engine.begin_pass()
        self._passes += 1
        return self._order[position]

    def run(self, *, max_new_tokens: int | None = None) -> None:
        self._workload.run(self.next_batch(), max_new_tokens=max_new_tokens)

    def run_timed(self) -> tuple[int, Timing]:
        """The batch that ran, and where its time went."""
        index = self.next_batch()
        return index, self._workload.run_timed(index)
