"""Marks the phases of a generation with hooks on the parts that a family declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import StoppingCriteria, StoppingCriteriaList

from profiling.engines.trace import Clock, HostClock, Mark, PhaseMissing, Trace

_EVENTS = "CUDA events in the stream, hooks on the parts, one synchronization at the end"


class EventClock:
    """For a GPU, which works asynchronously: events in its stream, read at the end."""

    source = _EVENTS

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


class MetalClock:
    """For an Apple GPU, which works asynchronously too and has one stream."""

    source = "Metal events (torch.mps.Event), hooks on the parts, one synchronization at the end"

    def __init__(self, *, mps: Any) -> None:
        self._mps = mps

    def mark(self) -> Any:
        event = self._mps.Event(enable_timing=True)
        event.record()
        return event

    def settle(self) -> None:
        self._mps.synchronize()

    def between_s(self, earlier: Any, later: Any) -> float:
        # The library refuses an event that is compared with itself.
        return 0.0 if earlier is later else float(earlier.elapsed_time(later)) * 1e-3


def clock_for(device: torch.device) -> Clock:
    if device.type == "cuda":
        return EventClock(cuda=torch.cuda, device=device)
    if device.type == "mps":
        return MetalClock(mps=torch.mps)
    return HostClock()


class TokenMarks(StoppingCriteria):  # type: ignore[misc]
    """Never stops a generation; it is called after each step, which chose a token or several."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        # Looked up once: a step of a small model takes no longer than some hundred such look-ups.
        self._mark = trace.clock.mark
        self._marks: list[Mark] = []
        self._before = 0
        self._go_on: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        length = input_ids.shape[1]
        if self._go_on is None:
            self._go_on = self._begin(input_ids)
        self._marks.append(Mark(self._mark(), length - self._before))
        return self._go_on

    def _begin(self, input_ids: Tensor) -> Tensor:
        rows, length = input_ids.shape
        # The first step chooses one token, whatever stands before it in the sequence.
        self._before = length - 1
        self._marks = self._trace.rows.setdefault(0, [])
        return torch.zeros(rows, dtype=torch.bool, device=input_ids.device)


def token_marks(trace: Trace) -> StoppingCriteriaList:
    return StoppingCriteriaList([TokenMarks(trace)])


class PhaseHooks:
    """Hooks on the parts of a network, writing into whichever trace is current.

    They stay between traced generations, so that setting them up is no part of what is timed.
    """

    def __init__(self, parts: dict[str, list[nn.Module]]) -> None:
        self._parts = parts
        self._trace: Trace | None = None
        self._handles: list[Any] = []
        self._stepped = False
        self._watched: set[str] = set()
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

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def follow(self, trace: Trace | None) -> None:
        self._trace = trace
        if self._stepped:
            self._await_first_step()

    def check(self, trace: Trace) -> None:
        """Raise where a part was never at work, though others of its phase were."""
        unseen = self._watched - trace.seen
        if unseen:
            raise PhaseMissing(f"never seen at work: {', '.join(sorted(unseen))}")

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
        if self._trace is not None and not self._stepped:
            self._trace.enter("prefill")

    def _first_logits(self, *_: Any) -> None:
        if self._trace is not None and not self._stepped:
            self._trace.leave("prefill")
            self._leave_steps_alone()
