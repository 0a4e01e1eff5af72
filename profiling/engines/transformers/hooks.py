"""The phases of a generation, and the hooks that find where one ends and the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import StoppingCriteria, StoppingCriteriaList

from profiling.models.model import Model

PHASES = ("preprocess", "transfer", "vision", "projector", "prefill", "decode", "other")
_SPANS = ("preprocess", "transfer", "vision", "projector", "prefill")


class Clock(Protocol):
    """Marks moments; what lies between two is known once everything marked has happened."""

    def mark(self) -> Any: ...
    def settle(self) -> None: ...
    def between_s(self, earlier: Any, later: Any) -> float: ...


class HostClock:
    """For a CPU, where a call returns when its work is done."""

    def mark(self) -> int:
        return time.perf_counter_ns()

    def settle(self) -> None:
        pass

    def between_s(self, earlier: int, later: int) -> float:
        return (later - earlier) * 1e-9


class EventClock:
    """For a GPU, which works behind the program's back: events in its stream, read at the end."""

    def __init__(self, *, cuda: Any, device: torch.device) -> None:
        self._cuda, self._device = cuda, device

    def mark(self) -> Any:
        event = self._cuda.Event(enable_timing=True)
        event.record(self._cuda.current_stream(self._device))
        return event

    def settle(self) -> None:
        self._cuda.synchronize(self._device)

    def between_s(self, earlier: Any, later: Any) -> float:
        return float(earlier.elapsed_time(later)) * 1e-3


def clock_for(device: torch.device) -> Clock:
    if device.type == "cuda":
        return EventClock(cuda=torch.cuda, device=device)
    return HostClock()


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the time of one batch went. The phases add up to the whole."""

    latency_s: float
    phases_s: dict[str, float]
    ttft_s: float | None
    tpot_s: float | None
    num_tokens: int


class PhaseMissing(RuntimeError):
    """A part of the model was never seen at work, so its time would land elsewhere."""


@dataclass(kw_only=True)
class Trace:
    """The moments marked while one batch runs."""

    clock: Clock
    spans: dict[str, list[tuple[Any, Any]]] = field(default_factory=dict)
    tokens: list[Any] = field(default_factory=list)
    head_exit: Any = None
    seen: set[str] = field(default_factory=set)
    _open: list[tuple[str, Any]] = field(default_factory=list)
    _nested: list[tuple[str, str, Any, Any]] = field(default_factory=list)

    def enter(self, phase: str) -> None:
        self._open.append((phase, self.clock.mark()))

    def leave(self, phase: str) -> None:
        name, begun = self._open.pop() if self._open else (None, None)
        if name != phase:
            raise PhaseMissing(f"{phase} was left and never entered")
        ended = self.clock.mark()
        self.spans.setdefault(phase, []).append((begun, ended))
        if self._open:
            self._nested.append((self._open[-1][0], phase, begun, ended))

    @contextmanager
    def span(self, phase: str) -> Iterator[None]:
        self.enter(phase)
        yield
        self.leave(phase)

    @property
    def prefilled(self) -> bool:
        return self.head_exit is not None

    def timing(self, begun: Any, ended: Any, expected: frozenset[str]) -> Timing:
        """The durations, once the clock has settled."""
        missing = expected - self.spans.keys()
        if missing or not self.prefilled or not self.tokens:
            raise PhaseMissing(f"never seen at work: {', '.join(sorted(missing)) or 'the head'}")
        if self._open:
            raise PhaseMissing(f"{self._open[-1][0]} was entered and never left")
        between = self.clock.between_s
        phases = {
            phase: sum(between(*span) for span in self.spans.get(phase, ())) for phase in _SPANS
        }
        for outer, inner, first, last in self._nested:
            if outer != inner:
                phases[outer] -= between(first, last)
        phases["decode"] = between(self.head_exit, self.tokens[-1])
        latency_s = between(begun, ended)
        phases["other"] = latency_s - sum(phases.values())
        steps = len(self.tokens) - 1
        return Timing(
            latency_s=latency_s,
            phases_s=phases,
            ttft_s=between(begun, self.tokens[0]),
            tpot_s=between(self.tokens[0], self.tokens[-1]) / steps if steps else None,
            num_tokens=len(self.tokens),
        )


class TokenMarks(StoppingCriteria):  # type: ignore[misc]
    """Never stops a generation; it is called right after each token is chosen."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._go_on: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        self._trace.tokens.append(self._trace.clock.mark())
        if self._go_on is None:
            shape, device = input_ids.shape[0], input_ids.device
            self._go_on = torch.zeros(shape, dtype=torch.bool, device=device)
        return self._go_on


def token_marks(trace: Trace) -> StoppingCriteriaList:
    return StoppingCriteriaList([TokenMarks(trace)])


class PhaseHooks:
    """Hooks on the parts that a family declares, writing into whichever trace is current."""

    def __init__(self, model: Model) -> None:
        self._parts = model.parts()
        self._trace: Trace | None = None
        self._handles: list[Any] = []
        self._stepped = False
        declared = {"vision", "projector"} & {name for name, found in self._parts.items() if found}
        self.expected = frozenset({"preprocess", "transfer", "prefill", *declared})
        self._watched: set[str] = set()

    def __enter__(self) -> PhaseHooks:
        for part, phase in (
            ("vision", "vision"),
            ("projector", "projector"),
            ("text_encoder", "prefill"),
        ):
            for module in self._parts[part]:
                name = f"{part} ({type(module).__name__})"
                self._watched.add(name)
                self._hook(module, self._entering(phase), self._leaving(phase, name))
        self._await_first_step()
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def follow(self, trace: Trace | None) -> None:
        self._trace = trace
        if self._stepped:
            self._await_first_step()

    def _await_first_step(self) -> None:
        (language,), (head,) = self._parts["language"], self._parts["head"]
        self._hook(language, self._first_step, None)
        self._hook(head, None, self._first_logits)
        self._stepped = False

    def _leave_steps_alone(self) -> None:
        """Steps of decoding need no marks of these hooks, and would each pay for calling them."""
        for handle in self._handles[-2:]:
            handle.remove()
        del self._handles[-2:]
        self._stepped = True

    def check(self, trace: Trace) -> None:
        """Raise where a part was never at work, though others of its phase were."""
        unseen = self._watched - trace.seen
        if unseen:
            raise PhaseMissing(f"never seen at work: {', '.join(sorted(unseen))}")

    def _hook(self, module: nn.Module, before: Any, after: Any) -> None:
        if before is not None:
            self._handles.append(module.register_forward_pre_hook(before))
        if after is not None:
            self._handles.append(module.register_forward_hook(after))

    def _entering(self, phase: str) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            if self._trace is not None:
                self._trace.enter(phase)

        return enter

    def _leaving(self, phase: str, name: str) -> Callable[..., None]:
        def leave(*_: Any) -> None:
            if self._trace is not None:
                self._trace.leave(phase)
                self._trace.seen.add(name)

        return leave

    def _first_step(self, *_: Any) -> None:
        if self._trace is not None and not self._trace.prefilled:
            self._trace.enter("prefill")

    def _first_logits(self, *_: Any) -> None:
        if self._trace is not None and not self._trace.prefilled:
            self._trace.leave("prefill")
            self._trace.head_exit = self._trace.spans["prefill"][-1][1]
            self._leave_steps_alone()
