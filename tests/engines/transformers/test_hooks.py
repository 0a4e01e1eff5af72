"""Where the time of a generation goes: borders, sums, and what is noticed when one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from profiling.engines.trace import PHASES, PhaseMissing, Timing, Trace
from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.transformers.hooks import EventClock, TokenMarks
from tests.engines.ticking import Ticks
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, load, make_workload


class Stream:
    """A simulated GPU: what is queued runs later, on a clock that the program does not see."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.synchronizations = 0

    def work(self, milliseconds: float) -> None:
        self.now_ms += milliseconds

    def make_module(self) -> SimpleNamespace:
        return SimpleNamespace(
            Event=lambda enable_timing: Event(self, enable_timing),
            current_stream=lambda device: (self, device),
            synchronize=self._synchronize,
        )

    def _synchronize(self, device: torch.device) -> None:
        self.synchronizations += 1


class Event:
    def __init__(self, stream: Stream, enable_timing: bool) -> None:
        assert enable_timing
        self._stream = stream
        self.at_ms: float | None = None

    def record(self, where: tuple[Stream, torch.device]) -> None:
        assert where == (self._stream, torch.device("cuda:1"))
        self.at_ms = self._stream.now_ms

    def elapsed_time(self, later: Event) -> float:
        assert self._stream.synchronizations == 1, "read before the stream was done"
        assert self.at_ms is not None
        assert later.at_ms is not None
        return later.at_ms - self.at_ms


def test_events_give_the_stream_s_own_durations_with_one_synchronization_at_the_end() -> None:
    stream = Stream()
    clock = EventClock(cuda=stream.make_module(), device=torch.device("cuda:1"))
    trace = Trace(clock=clock)
    begun = clock.mark()
    lengths_ms = {"preprocess": 8, "transfer": 2, "vision": 40, "projector": 4, "prefill": 100}
    for phase, length_ms in lengths_ms.items():
        with trace.span(phase):
            stream.work(length_ms)
        stream.work(1)
    for number in range(3):
        stream.work(10)
        trace.tokens(number + 1)
    stream.work(5)
    ended = clock.mark()
    assert stream.synchronizations == 0
    clock.settle()
    timing = trace.timing(begun, ended, {})
    expected = {**lengths_ms, "decode": 31, "other": 9}
    assert timing.phases_s == pytest.approx({k: v * 1e-3 for k, v in expected.items()})
    assert timing.latency_s == pytest.approx(0.194)
    assert timing.tpot_s == pytest.approx(0.010)
    assert stream.synchronizations == 1


def test_a_gpu_timing_of_a_whole_generation_synchronizes_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The marks of a real pass, on a simulated stream on which each mark takes a millisecond."""
    stream = Stream()
    device = torch.device("cuda:1")
    engine = load("llava")
    workload = make_workload(engine, batch_size=2, max_new_tokens=4, count=2)
    cuda = stream.make_module()
    cuda.current_stream = lambda device: (stream.work(1), (stream, device))[1]
    monkeypatch.setattr(engine, "clock", lambda: EventClock(cuda=cuda, device=device))
    timing = workload.run_timed(0)
    assert stream.synchronizations == 1
    assert sum(timing.phases_s.values()) == pytest.approx(timing.latency_s)
    assert timing.phases_s["decode"] == pytest.approx(0.004)


@pytest.fixture(params=FAMILIES)
def engine(request: pytest.FixtureRequest) -> Iterator[TransformersEngine]:
    loaded = load(request.param)
    yield loaded
    # A pass that nobody traces takes the hooks away, those that a test has broken too.
    make_workload(loaded, batch_size=1, max_new_tokens=1, count=1).run(0)


def run_timed(
    engine: TransformersEngine, *, batch_size: int = 1, max_new_tokens: int = 6
) -> Timing:
    workload = make_workload(
        engine, batch_size=batch_size, max_new_tokens=max_new_tokens, count=batch_size
    )
    return workload.run_timed(0)


def test_every_phase_of_a_family_is_seen_and_they_add_up(engine: TransformersEngine) -> None:
    timing = run_timed(engine, batch_size=2)
    absent = {"projector"} - {name for name, found in engine.model.parts().items() if found}
    assert set(engine.blind) == absent
    assert all("projector" in reason for reason in engine.blind.values())
    assert set(timing.phases_s) == set(PHASES) - absent
    assert sum(timing.phases_s.values()) == pytest.approx(timing.latency_s, rel=1e-12)
    # On a CPU nothing is transferred: what the transfer takes may be less than a tick.
    assert all(timing.phases_s[phase] > 0 for phase in timing.phases_s.keys() - {"transfer"})
    assert timing.ttft_s is not None
    assert timing.tpot_s is not None
    assert 0 < timing.tpot_s < timing.ttft_s <= timing.latency_s
    assert timing.num_tokens == 6


@pytest.mark.parametrize("engine", slow_except(FAMILIES, "llava"), indirect=True)
def test_a_single_token_is_timed_without_decoding_steps(engine: TransformersEngine) -> None:
    timing = run_timed(engine, max_new_tokens=1)
    assert timing.num_tokens == 1
    assert timing.tpot_s is None
    assert timing.ttft_s is not None
    assert timing.ttft_s <= timing.latency_s


def handles_of(engine: TransformersEngine) -> list[Any]:
    """The hooks that a timed pass has left on the network for the next one."""
    run_timed(engine, max_new_tokens=2)
    assert engine._hooks is not None
    # Those of the first step are set up anew before each pass.
    engine._hooks.follow(None)
    return engine._hooks._handles


@pytest.mark.parametrize("engine", slow_except(FAMILIES, "blip2_t5", "fuyu"), indirect=True)
def test_each_missing_hook_is_noticed(engine: TransformersEngine) -> None:
    number = len(handles_of(engine))
    assert number >= 4
    for missing in range(number):
        handles_of(engine)[missing].remove()
        with pytest.raises(PhaseMissing):
            run_timed(engine, max_new_tokens=2)
        make_workload(engine, batch_size=1, max_new_tokens=1, count=1).run(0)


@pytest.mark.parametrize("engine", slow_except(FAMILIES, "blip2_opt", "blip2_t5"), indirect=True)
def test_each_missing_part_is_noticed(engine: TransformersEngine) -> None:
    """Both hooks of a part taken away: its time would silently become `other`."""
    parts = engine.model.parts()
    watched = len(parts["vision"]) + len(parts["projector"]) + len(parts["text_encoder"])
    for missing in range(watched):
        for handle in handles_of(engine)[2 * missing : 2 * missing + 2]:
            handle.remove()
        with pytest.raises(PhaseMissing):
            run_timed(engine, max_new_tokens=2)
        make_workload(engine, batch_size=1, max_new_tokens=1, count=1).run(0)


def count_hooks(engine: TransformersEngine) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in engine.network.modules()
    )


@pytest.mark.parametrize("engine", slow_except(FAMILIES, "blip2_t5", "llava"), indirect=True)
def test_a_pass_that_is_not_timed_meets_no_hook(engine: TransformersEngine) -> None:
    workload = make_workload(engine, batch_size=1, max_new_tokens=2, count=1)
    workload.run(0)
    before = count_hooks(engine)
    workload.run_timed(0)
    between = count_hooks(engine)
    workload.run_timed(0)
    # They stay between timed passes, as many as they were, and not beyond.
    assert count_hooks(engine) == between > before
    workload.run(0)
    assert count_hooks(engine) == before


def test_the_text_encoder_belongs_to_the_prefill(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, clock = load("blip2_t5"), Ticks()
    monkeypatch.setattr(engine, "clock", lambda: clock)
    timing = run_timed(engine, max_new_tokens=2)
    # Two spans, the encoder's and the decoder's first step, of a tick each.
    assert timing.phases_s["prefill"] == 2
    assert clock.settled == 1


def test_a_step_that_chose_several_tokens_says_so() -> None:
    trace = Trace(clock=Ticks())
    marks = TokenMarks(trace)
    for length in (8, 11, 12):
        stops = marks(torch.zeros(2, length, dtype=torch.long), None)
        assert stops.tolist() == [False, False]
    # Seven tokens stood there before; the first step chooses one.
    assert [mark.tokens for mark in trace.rows[0]] == [1, 4, 5]
    assert set(trace.rows) == {0}


@pytest.mark.parametrize("engine", slow_except(FAMILIES, "fuyu", "qwen25vl"), indirect=True)
@pytest.mark.parametrize("batch_size", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_named_phases_cover_nine_tenths_of_a_batch(
    engine: TransformersEngine, batch_size: int
) -> None:
    """The least disturbed of several repeats: other programs can only make `other` larger."""
    workload = make_workload(engine, batch_size=batch_size, max_new_tokens=50, count=batch_size)
    shares = []
    for _ in range(6):
        timing = workload.run_timed(0)
        shares.append(timing.phases_s["other"] / timing.latency_s)
        if len(shares) > 1 and min(shares) <= 0.1:
            break
    assert min(shares) <= 0.1
