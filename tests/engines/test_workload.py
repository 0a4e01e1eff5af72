"""A batch is taken through an engine exactly as people run it, whether it is watched or not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from profiling.engines.trace import Trace
from profiling.engines.transformers.engine import TransformersEngine
from profiling.models import model as module
from profiling.samples.samples import full_batches
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, generate, load, make_workload, take_samples


@pytest.fixture(params=slow_except(FAMILIES, "blip2_t5", "fuyu"))
def engine(request: pytest.FixtureRequest) -> TransformersEngine:
    return load(request.param)


def test_outputs_are_the_same_with_and_without_hooks(engine: TransformersEngine) -> None:
    workload = make_workload(engine, batch_size=2, max_new_tokens=5, count=4)
    plain = [generate(workload, index) for index in range(2)]
    trace = Trace(clock=engine.clock())
    with trace.span("preprocess"):
        inputs = engine.place(workload.encode(0))
    watched = engine.generate(inputs, length=5, exact=True, trace=trace)
    unwatched = generate(workload, 1)
    assert torch.equal(watched, plain[0])
    assert torch.equal(unwatched, plain[1])
    assert [mark.tokens for mark in trace.rows[0]] == [1, 2, 3, 4, 5]


def test_every_batch_comes_round_again(engine: TransformersEngine) -> None:
    workload = make_workload(engine, batch_size=2, max_new_tokens=3, count=4)
    first, second, again = (generate(workload, index) for index in (0, 1, 2))
    assert first.shape == second.shape == (2, 3)
    assert torch.equal(first, again)


def test_pictures_are_read_once_or_each_time(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    original = module.read_picture
    monkeypatch.setattr(module, "read_picture", lambda path: (read.append(path), original(path))[1])
    kept = make_workload(engine, batch_size=2, max_new_tokens=1, count=4)
    assert len(read) == 4
    fresh = make_workload(engine, batch_size=2, max_new_tokens=1, count=4, preload=False)
    assert len(read) == 4
    one, other = (workload.encode(1) for workload in (kept, fresh))
    assert [path.name for path in read[4:]] == [s.picture.name for s in take_samples(4)[2:]]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_probe_may_ask_for_another_length(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = make_workload(engine, batch_size=1, max_new_tokens=4, count=1)
    shapes: list[torch.Size] = []
    original = engine.generate

    def remember(*given: object, **options: object) -> torch.Tensor:
        tokens = original(*given, **options)  # type: ignore[arg-type]
        shapes.append(tokens.shape)
        return tokens

    monkeypatch.setattr(engine, "generate", remember)
    workload.run(0)
    workload.run(0, max_new_tokens=2)
    assert workload.run_timed(0).num_tokens == 4
    assert shapes == [(1, 4), (1, 2), (1, 4)]


def test_measured_batches_are_full() -> None:
    samples = take_samples(8)
    assert [len(batch) for batch in full_batches(samples, 3)] == [3, 3]
    (only,) = full_batches(samples[:2], 5)
    assert [sample.id for sample in only] == [samples[i].id for i in (0, 1, 0, 1, 0)]
