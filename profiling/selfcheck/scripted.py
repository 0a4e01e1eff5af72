"""A model whose parts take known times, on the host or on a simulated GPU."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, Protocol, Self, cast

import torch
from torch import Tensor, nn

from profiling.engines.engine import Engine, Footprint, Row
from profiling.engines.trace import Clock, Trace
from profiling.engines.transformers.hooks import EventClock, PhaseHooks, clock_for, token_marks
from profiling.engines.workload import Workload
from profiling.errors import Unsupported
from profiling.points.point import Point
from profiling.samples.samples import Sample

BATCH_SIZE = 3
NEW_TOKENS = 8
# All different, so that confused phases are detected.
SCRIPT_S: Mapping[str, float] = {
    "preprocess": 0.006,
    "transfer": 0.004,
    "vision": 0.011,
    "projector": 0.005,
    "prefill": 0.009,
    "first_choice": 0.003,
    "step": 0.007,
    "choice": 0.002,
    "other": 0.008,
}


class Stage(Protocol):
    """Spends time and records how much."""

    device: torch.device
    passes: list[dict[str, float]]

    def spend(self, name: str) -> None: ...


class RealTime:
    """Real time; sleeping overshoots, so the time actually slept is recorded."""

    def __init__(self, *, script_s: Mapping[str, float]) -> None:
        self.device = torch.device("cpu")
        self.script_s = script_s
        self.passes: list[dict[str, float]] = []

    def spend(self, name: str) -> None:
        begun = time.perf_counter()
        time.sleep(self.script_s[name])
        self.passes[-1][name] += time.perf_counter() - begun


class NotReady(RuntimeError):
    """An event was read before its work was done."""


class SimulatedGpu:
    """A simulated asynchronous device: a launch returns at once and the stream lags behind.

    It replaces `torch.cuda` for a clock: an event has the time at which the stream reaches it, and
    cannot be read before the program has synchronized.
    """

    def __init__(self, *, script_s: Mapping[str, float]) -> None:
        self.device = torch.device("cuda", 0)
        self.script_s = script_s
        self.passes: list[dict[str, float]] = []
        self.host_s = self.stream_s = 0.0
        self.waits = 0

    def spend(self, name: str) -> None:
        seconds = self.script_s[name]
        self.passes[-1][name] += seconds
        if name == "preprocess":
            self.host_s += seconds
        else:
            self.stream_s = self.reached_s + seconds

    @property
    def reached_s(self) -> float:
        """When the stream will have finished all work queued so far."""
        return max(self.host_s, self.stream_s)

    def Event(self, *, enable_timing: bool) -> SimulatedEvent:
        return SimulatedEvent(self)

    def current_stream(self, device: torch.device) -> SimulatedGpu:
        return self

    def synchronize(self, device: torch.device) -> None:
        self.waits += 1
        self.host_s = self.reached_s


class SimulatedEvent:
    def __init__(self, gpu: SimulatedGpu) -> None:
        self._gpu = gpu
        self.moment_s = 0.0

    def record(self, stream: SimulatedGpu) -> None:
        self.moment_s = stream.reached_s

    def elapsed_time(self, later: SimulatedEvent) -> float:
        """Milliseconds, like CUDA."""
        if max(self.moment_s, later.moment_s) > self._gpu.host_s:
            raise NotReady("an event was read before the GPU had reached it")
        return (later.moment_s - self.moment_s) * 1e3


class Stretch(nn.Module):
    """A part of the network: spends its own time, then runs the parts inside it."""

    def __init__(self, *, spend: Callable[[], None], inside: Sequence[nn.Module]) -> None:
        super().__init__()
        self.spend = spend
        self.inside = nn.ModuleList(inside)

    def forward(self, values: Tensor) -> Tensor:
        self.spend()
        for module in self.inside:
            values = module(values)
        return values


class ScriptedEngine(Engine):
    """An engine that runs a script instead of a network."""

    blind: Mapping[str, str] = MappingProxyType({})
    has_values = False

    def __init__(self, *, stage: Stage) -> None:
        self.stage = stage
        self._forwards = 0
        projector = Stretch(spend=self._part("projector"), inside=())
        # Inside the vision part, as in some families: its time must not count twice.
        self.vision = Stretch(spend=self._part("vision"), inside=[projector])
        self.language = Stretch(spend=self._take_forward, inside=())
        self.head = Stretch(spend=lambda: None, inside=())
        parts = {"vision": [self.vision], "projector": [projector], "text_encoder": []}
        parts |= {"language": [self.language], "head": [self.head]}
        self._hooks = PhaseHooks(cast(dict[str, list[nn.Module]], parts))

    def _part(self, name: str) -> Callable[[], None]:
        return lambda: self.stage.spend(name)

    def _take_forward(self) -> None:
        self.stage.spend("step" if self._forwards else "prefill")
        self._forwards += 1

    @classmethod
    def check(cls, point: Point) -> None:
        raise Unsupported("a scripted engine is not available to points")

    @classmethod
    def load(cls, point: Point) -> Self:
        raise Unsupported("a script is no point")

    @classmethod
    def is_out_of_memory(cls, error: Exception) -> bool:
        return False

    def prepare(self, samples: Sequence[Sample], prompt_len: int | None) -> list[Sample]:
        return list(samples)

    def encode(self, batch: Sequence[Sample], img_size: int | None) -> Tensor:
        self.stage.passes.append(defaultdict(float))
        self.stage.spend("preprocess")
        return torch.zeros(len(batch), 1, dtype=torch.long)

    def place(self, inputs: Tensor) -> Tensor:
        self.stage.spend("transfer")
        return inputs

    def generate(self, inputs: Tensor, *, length: int, exact: bool, trace: Trace | None) -> Tensor:
        self._hooks.follow(trace)
        marks = [] if trace is None else token_marks(trace)
        self._forwards = 0
        self.vision(inputs)
        tokens = inputs
        for number in range(length):
            self.head(self.language(tokens))
            self.stage.spend("choice" if number else "first_choice")
            tokens = torch.cat([tokens, tokens[:, :1]], dim=1)
            for told in marks:
                told(tokens, None)
        self.stage.spend("other")
        self._hooks.follow(None)
        return tokens[:, 1:]

    def describe(self, batch: Sequence[Sample], inputs: Tensor, generated: Any | None) -> list[Row]:
        raise Unsupported("a script answers nothing")

    def tokens(self, generated: Tensor) -> list[list[int]]:
        return generated.tolist()  # type: ignore[no-any-return]

    def reference_nlls(
        self, inputs: Tensor, references: Sequence[str], length: int
    ) -> list[float | None]:
        raise Unsupported("a script answers nothing")

    def clock(self) -> Clock:
        if isinstance(self.stage, SimulatedGpu):
            return EventClock(cuda=self.stage, device=self.stage.device)
        return clock_for(self.stage.device)

    def footprint(self) -> Footprint:
        return Footprint(
            pids=(),
            device=str(self.stage.device),
            gpu_uuid=None,
            dtype=None,
            computes_in=None,
            model_bytes=None,
            accelerator=None,
        )


class ScriptedWorkload(Workload):
    """The project's workload with a scripted engine."""

    def __init__(self, *, stage: Stage) -> None:
        sample = Sample(id="0", pictures=(Path(),), request="", references=())
        super().__init__(
            engine=ScriptedEngine(stage=stage),
            batches=[[sample] * BATCH_SIZE],
            img_size=1,
            prompt_len=None,
            max_new_tokens=NEW_TOKENS,
            preload=True,
        )
        self.stage = stage


def known_answers(passes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The aggregate readings that a latency probe has to report for these passes."""
    each = [_known_of_pass(one) for one in passes]
    known = {metric: median(one[metric] for one in each) for metric in each[0]}
    known["samples_per_s"] = BATCH_SIZE / known["latency_s"]
    known["tokens_per_s"] = BATCH_SIZE * NEW_TOKENS / known["latency_s"]
    return known


def _known_of_pass(spent: Mapping[str, float]) -> dict[str, float]:
    until_prefilled = ("preprocess", "transfer", "vision", "projector", "prefill")
    before_first_s = sum(spent[name] for name in until_prefilled)
    later_s = spent["step"] + spent["choice"]
    return {
        **{f"{name}_s": spent[name] for name in (*until_prefilled, "other")},
        "latency_s": sum(spent.values()),
        "decode_s": spent["first_choice"] + later_s,
        "ttft_s": before_first_s + spent["first_choice"],
        "tpot_s": later_s / (NEW_TOKENS - 1),
    }
